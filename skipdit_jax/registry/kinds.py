"""One record per family of networks, and what can be asked of a network because of it."""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from skipdit_jax import config as plain
from skipdit_jax.caching.plan import CachePolicy
from skipdit_jax.checkpoints.layouts import WeightLayout
from skipdit_jax.contracts import Backbone, Network
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.published import VAE_FACTOR
from skipdit_jax.sharding import Splits
from skipdit_jax.typing import Params

TRACED_NETWORKS = 32  # whose parameter shapes are remembered: a few kilobytes each


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkKind:
    """How the networks of a family are made, and how their weights lie in files.

    Attributes:
      config: its frozen config class, a `contracts.NetworkConfig`; tells its networks from others.
      module: makes the network from a config.
      layout: of its checkpoints, with the name of the family and its sign.
    """

    config: type
    module: Callable[[Any], Network]
    layout: WeightLayout

    @property
    def name(self) -> str:
        """Of the family, as native files record it."""
        return self.layout.name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family(NetworkKind):
    """Everything that the library knows of a family of diffusion models.

    What a model is conditioned on stands in the model itself (`Backbone.conditioning`).

    Attributes:
      label: how the names of its models begin.
      sizes: letter of a name -> fields of the config.
      patches: sides of a patch that names state; () for names without one.
      endings: how names may end -> fields of the config.
      further: names that follow no pattern -> fields of the config.
      cached: names that end in -N -> (the name of the model, the policy whose N they state).
      method: sampler of the published samples, see `sampling.methods`.
      steps: their number or spacing.
      guidance: scale of the published samples.
      guided_channels: config -> how many channels guidance mixes in them; None: all.
      cache: config -> the published caching policy; None: nothing was published.
      diffusion: config -> the process of the published weights; None: linear betas, noise.
      sharding: which mesh axes split its parameters, see `sharding.shardings`.
      pixels_per_latent: along each side, of the autoencoder that its models work behind.
    """

    label: str
    sizes: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    patches: tuple[int, ...] = ()
    endings: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=lambda: {"": {}})
    further: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    cached: Mapping[str, tuple[str, CachePolicy]] = dataclasses.field(default_factory=dict)
    method: str = "ddpm"
    steps: str = "250"
    guidance: float = 1.0
    guided_channels: Callable[[Any], int | None] = lambda config: None
    cache: Callable[[Any], CachePolicy | None] = lambda config: None
    diffusion: Callable[[Any], Diffusion | None] = lambda config: None
    sharding: Splits = ()
    pixels_per_latent: int = VAE_FACTOR

    @functools.cached_property
    def pattern(self) -> re.Pattern[str]:
        """The names of its sizes, such as "DiT-XL/2-skip"; a dash may stand for the slash."""
        sizes, endings = ("|".join(map(re.escape, names)) for names in (self.sizes, self.endings))
        patch = rf"[/-](?P<patch>{'|'.join(map(str, self.patches))})" if self.patches else ""
        return re.compile(rf"{re.escape(self.label)}-(?P<size>{sizes}){patch}(?P<ending>{endings})")

    def fields_of(self, name: str) -> dict[str, Any] | None:
        """Fields of the config that one of its names states; None for other names."""
        if name in self.further:
            return dict(self.further[name])
        match = self.pattern.fullmatch(name) if self.sizes else None
        if not match:
            return None
        patch = {"patch_size": int(match["patch"])} if self.patches else {}
        return {**self.sizes[match["size"]], **patch, **self.endings[match["ending"]]}

    def names(self) -> list[str]:
        """Every name of its models."""
        patches = [f"/{patch}" for patch in self.patches] or [""]
        sized = [
            f"{self.label}-{size}{patch}{ending}"
            for ending in self.endings
            for size in self.sizes
            for patch in patches
        ]
        return [*sized, *self.further]


class PublishedSampling(NamedTuple):
    """Settings of the published samples that belong to a model."""

    guidance: float = 1.0
    guided_channels: int | None = None
    cache: CachePolicy | None = None
    method: str = Family.method
    steps: str = Family.steps


FAMILIES: dict[str, Family] = {}
"""Diffusion models by the name of their family; filled by `register_family`."""

AUTOENCODERS: dict[str, NetworkKind] = {}
"""Autoencoders likewise; filled by `register_autoencoder`."""

TEXT_ENCODERS: dict[str, NetworkKind] = {}
"""Text encoders likewise; filled by `register_text_encoder`."""

METRIC_NETWORKS: dict[str, NetworkKind] = {}
"""Networks of metrics likewise; filled by `register_metric_network`."""


def register_family(family: Family) -> None:
    """Makes a family known: to names, checkpoints, sampling, training and the command lines.

    Of families whose signs fit the same checkpoint, the one registered last is taken.

    Raises:
      ValueError: its name, label, config class or one of its names belongs to another family.
    """
    _check_new(family)
    for other in FAMILIES.values():
        both = {family.label, *family.further, *family.cached}
        taken = both & {other.label, *other.further, *other.cached}
        if taken:
            raise ValueError(
                f"register_family {family.name}: {', '.join(sorted(taken))} is of family "
                f"{other.name}, wanted another name"
            )
    FAMILIES[family.name] = family


def register_autoencoder(kind: NetworkKind) -> None:
    """Makes a family of autoencoders known.

    Raises:
      ValueError: its name or config class belongs to another family.
    """
    _check_new(kind)
    AUTOENCODERS[kind.name] = kind


def register_text_encoder(kind: NetworkKind) -> None:
    """Makes a family of text encoders known.

    Raises:
      ValueError: its name or config class belongs to another family.
    """
    _check_new(kind)
    TEXT_ENCODERS[kind.name] = kind


def register_metric_network(kind: NetworkKind) -> None:
    """Makes a family of networks of metrics known.

    Raises:
      ValueError: its name or config class belongs to another family.
    """
    _check_new(kind)
    METRIC_NETWORKS[kind.name] = kind


def _kinds() -> dict[str, NetworkKind]:
    """Every network by the name of its family."""
    return {**FAMILIES, **AUTOENCODERS, **TEXT_ENCODERS, **METRIC_NETWORKS}


def _check_new(kind: NetworkKind) -> None:
    for other in _kinds().values():
        if kind.name == other.name or kind.config is other.config:
            raise ValueError(
                f"register {kind.name}: family {other.name} has that name or config "
                f"{other.config.__name__} already"
            )


def weight_layouts() -> tuple[WeightLayout, ...]:
    """The layouts of diffusion models and autoencoders, as `open_checkpoint` wants them."""
    return tuple(kind.layout for kind in (*FAMILIES.values(), *AUTOENCODERS.values()))


def text_layouts() -> tuple[WeightLayout, ...]:
    """Those of text encoders: a file with a model and its encoders is one of a model."""
    return tuple(kind.layout for kind in TEXT_ENCODERS.values())


def metric_layouts() -> tuple[WeightLayout, ...]:
    """Those of networks of metrics, and `weight_layouts`, for files that may be of either.

    The latter prevail: an autoencoder that was saved with its LPIPS is one of an autoencoder.
    """
    return (*(kind.layout for kind in METRIC_NETWORKS.values()), *weight_layouts())


def build(family: str, fields: Mapping[str, Any]) -> Any:
    """Makes the network of a family from the plain fields of its config.

    Raises:
      ValueError: for an unknown family, an unknown field, or values that describe no network.
    """
    kinds = _kinds()
    if family not in kinds:
        raise ValueError(f"unknown family {family!r}: this version knows {', '.join(kinds)}")
    return kinds[family].module(plain.make(kinds[family].config, fields, family))


def kind_of(network: Network) -> NetworkKind | None:
    """The record of a network; None of one that belongs to no family."""
    for kind in _kinds().values():
        if type(network.config) is kind.config:
            return kind
    return None


def layout_of(network: Network) -> WeightLayout:
    """How the weights of a network lie in files.

    Raises:
      ValueError: it belongs to no family.
    """
    kind = kind_of(network)
    if kind is None:
        known = ", ".join(_kinds())
        raise ValueError(f"{type(network).__name__} belongs to no family: {known}")
    return kind.layout


def family_of(network: Network) -> str:
    """The name of a network's family; errors are those of `layout_of`."""
    return layout_of(network).name


def sharding_rules(model: Backbone) -> Splits:
    """Which mesh axes split the parameters of the model, see `sharding.shardings`."""
    kind = kind_of(model)
    return kind.sharding if isinstance(kind, Family) else ()


def published_sampling(model: Backbone) -> PublishedSampling:
    """What the published samples of the model's family were made with; else no guidance."""
    kind = kind_of(model)
    if not isinstance(kind, Family):
        return PublishedSampling()
    config = model.config
    return PublishedSampling(
        guidance=kind.guidance,
        guided_channels=kind.guided_channels(config),
        cache=kind.cache(config),
        method=kind.method,
        steps=kind.steps,
    )


def abstract_params(network: Network) -> Params:
    """The tree of parameter shapes and types, without any memory."""
    return jax.tree.map(lambda leaf: leaf, _traced_params(network))  # a dict of the caller's own


@functools.lru_cache(maxsize=TRACED_NETWORKS)
def _traced_params(network: Network) -> Params:
    """Tracing XL takes seconds, and one run asks several times."""
    return jax.eval_shape(network.init, jax.random.key(0), *network.example_inputs())["params"]


def init_params(network: Network, key: jax.Array) -> Params:
    """Draws parameters by the published initialisation, without running the network.

    Examples:
      >>> import jax, skipdit_jax as sd
      >>> model = sd.create_model("DiT-S/8", depth=2, hidden_size=16, num_heads=2, input_size=8)
      >>> params = sd.init_params(model, jax.random.key(0))
      >>> params["blocks_0"]["attn"]["qkv"]["kernel"].shape
      (16, 48)
    """
    return network.lazy_init(key, *network.example_inputs())["params"]
