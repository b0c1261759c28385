"""From a name to a model: the one list of families and of published and bundled configurations."""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from skipdit_jax.caching.policy import SkipCache
from skipdit_jax.caching.presets import DIT_SKIP_CACHE, LATTE_SKIP_CACHE, dit_skip_cache
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.models.dit import DiT, DiTConfig
from skipdit_jax.models.latte import Latte, LatteConfig
from skipdit_jax.published import PATCHES, SIZES, VAE_FACTOR
from skipdit_jax.sharding import FSDP, TENSOR, Split, Splits
from skipdit_jax.typing import Params

TRACED_MODELS = 32  # whose parameter shapes are remembered: a few kilobytes each
ASSETS = Path(__file__).parent / "assets"
DIGITS = "dit-digits"
MOVING_DIGITS = "latte-digits"
BUNDLED = (DIGITS, MOVING_DIGITS)


class Family(NamedTuple):
    """What the rest of the library must know of a backbone.

    Attributes:
      config: its frozen config class.
      module: makes the module from a config.
      guidance: scale of the published samples with labels.
      guided_channels: how many channels guidance mixes in them; None: all.
      cache: config -> the published settings of Skip-Cache.
      sharding: which mesh axes split its parameters.
    """

    config: type
    module: Callable[[Any], nn.Module]
    guidance: float
    guided_channels: int | None
    cache: Callable[[Any], SkipCache]
    sharding: Splits


class PublishedSampling(NamedTuple):
    """Settings of the published samples that belong to a model."""

    guidance: float
    guided_channels: int | None
    cache: SkipCache


class Entry(NamedTuple):
    """A name resolved.

    Attributes:
      family: key of FAMILIES.
      config: fields of the family's config.
      pixels_per_latent: 1 where the model works on pixels.
      cache: the caching policy that the name asks for, if any.
      weights: the bundled checkpoint, if there is one.
    """

    family: str
    config: Mapping[str, Any]
    pixels_per_latent: int = VAE_FACTOR
    cache: SkipCache | None = None
    weights: Path | None = None


# Column, then row: what qkv and fc1 put out in parts, proj and fc2 take in parts, so that the MLP
# needs one sum over "tensor" (Shoeybi et al., "Megatron-LM", arXiv 1909.08053, section 3). The
# columns of qkv are [q|k|v], not heads: the partitioner moves them once more (docs/scaling.md).
# Embeddings: 1,001 rows divide by nothing, the width does.
DIT_SHARDING = (
    Split(r"(attn/qkv|mlp/fc1|modulation)/kernel$", (FSDP, TENSOR)),
    Split(r"(attn/proj|mlp/fc2)/kernel$", (TENSOR, FSDP)),
    Split(r"(t_embedder/fc\d|skip_fusions_\d+/linear|final_layer/linear)/kernel$", (FSDP, None)),
    Split(r"(y_embedder/embedding|x_embedder/kernel)$", (None, FSDP)),
)

FAMILIES = {
    "dit": Family(
        DiTConfig,
        DiT,
        guidance=4.0,
        guided_channels=3,
        cache=lambda config: dit_skip_cache(config.depth),
        sharding=DIT_SHARDING,
    ),
    "latte": Family(
        LatteConfig,
        Latte,
        guidance=7.0,  # of UCF101 with labels
        guided_channels=None,
        cache=lambda config: LATTE_SKIP_CACHE,
        sharding=DIT_SHARDING,  # the same names
    ),
}
LABELS = {"DiT": "dit", "Latte": "latte"}
"""How names begin -> family."""
SKIP_CACHES = {"DiT-cache": DIT_SKIP_CACHE, "Latte-skip-cache": LATTE_SKIP_CACHE}
"""How names end in the published notation -> the policy whose N they change."""

_SIZED = re.compile(r"(?P<label>DiT|Latte)-(?P<size>S|B|L|XL)[/-](?P<patch>\d+)(?P<skip>-skip)?")
_CACHED = re.compile(r"(?P<name>DiT-cache|Latte-skip-cache)-(?P<every>\d+)")


def model_names() -> list[str]:
    """Every name that `create_model` takes, aliases apart."""
    names = []
    for label in LABELS:
        skips = ("", "-skip")
        names += [f"{label}-{s}/{p}{skip}" for skip in skips for s in SIZES for p in PATCHES]
        names.append(f"{label}-skip")
    return [*names, *(f"{name}-N" for name in SKIP_CACHES), *BUNDLED]


def _entry(
    label: str, size: str = "XL", patch: int = 2, skip: bool = True, cache: SkipCache | None = None
) -> Entry:
    return Entry(LABELS[label], {**SIZES[size], "patch_size": patch, "skip": skip}, cache=cache)


def find_entry(name: str) -> Entry:
    """Resolves a model name.

    Raises:
      ValueError: with the list of names, if there is no such model.
    """
    if (match := _SIZED.fullmatch(name)) and int(match["patch"]) in PATCHES:
        return _entry(match["label"], match["size"], int(match["patch"]), bool(match["skip"]))
    if (label := name.removesuffix("-skip")) in LABELS and label != name:
        return _entry(label)
    if match := _CACHED.fullmatch(name):
        cache = dataclasses.replace(SKIP_CACHES[match["name"]], every=int(match["every"]))
        return _entry(match["name"].split("-")[0], cache=cache)
    if name == DIGITS:
        weights = ASSETS / "dit_digits.safetensors"
        return Entry("dit", {"input_size": 8, "in_channels": 1}, 1, weights=weights)
    if name == MOVING_DIGITS:
        weights = ASSETS / "latte_digits.safetensors"
        return Entry("latte", {"input_size": 32, "in_channels": 1}, 1, weights=weights)
    raise ValueError(f"unknown model {name!r}: choose one of {', '.join(model_names())}")


def build(family: str, fields: Mapping[str, Any]) -> nn.Module:
    """Makes the module of a family from the plain fields of its config.

    Raises:
      ValueError: for an unknown family, an unknown field, or values that describe no model.
    """
    if family not in FAMILIES:
        raise ValueError(f"unknown family {family!r}: this version knows {', '.join(FAMILIES)}")
    known = [field.name for field in dataclasses.fields(FAMILIES[family].config)]
    if unknown := sorted(set(fields) - set(known)):
        raise ValueError(
            f"{family}: unknown option {', '.join(unknown)}; it takes {', '.join(known)}"
        )
    return FAMILIES[family].module(FAMILIES[family].config(**fields))


def create_model(name: str, *, image_size: int | None = None, **overrides: Any) -> nn.Module:
    """Makes a model by its published name.

    Args:
      name: "DiT-XL/2", "DiT-B/4-skip", "DiT-skip" (= XL/2-skip), "Latte-XL/2-skip", ...:
        `model_names()`.
      image_size: side in pixels, a multiple of the autoencoder's 8; sets `input_size`.
      **overrides: any field of the family's config (`DiTConfig`, `LatteConfig`): `depth`,
        `num_classes`, `num_frames`, `dtype`...

    Returns:
      A flax module; parameters are made by `init_params` or `load_checkpoint`.

    Raises:
      ValueError: for an unknown name, an unknown field, or values that describe no model.

    Examples:
      >>> import skipdit_jax as sd
      >>> model = sd.create_model("DiT-XL/2-skip", image_size=256)
      >>> model.num_stages, model.num_skips, model.config.grid
      (28, 14, (32, 32))
      >>> sd.create_model("DiT-S/2", input_size=(16, 8), num_classes=10).config.sample_shape
      (16, 8, 4)
      >>> sd.create_model("Latte-XL/2-skip", num_classes=101).config.sample_shape
      (16, 32, 32, 4)
    """
    entry = find_entry(name)
    if image_size is not None:
        if "input_size" in overrides:
            raise ValueError("create_model: give image_size or input_size, not both")
        if image_size <= 0 or image_size % entry.pixels_per_latent:
            raise ValueError(
                f"create_model: image_size is {image_size}, "
                f"wanted a positive multiple of {entry.pixels_per_latent}"
            )
        overrides["input_size"] = image_size // entry.pixels_per_latent
    return build(entry.family, {**entry.config, **overrides})


def family_of(model: nn.Module) -> str:
    """The key of FAMILIES that a model belongs to."""
    for name, family in FAMILIES.items():
        if type(model.config) is family.config:
            return name
    raise ValueError(f"{type(model).__name__} belongs to no family: {', '.join(FAMILIES)}")


def sharding_rules(model: nn.Module) -> Splits:
    """Which mesh axes split the parameters of the model, see `sharding.shardings`."""
    return FAMILIES[family_of(model)].sharding


def published_sampling(model: nn.Module) -> PublishedSampling:
    """What the published samples of the model's family were made with."""
    family = FAMILIES[family_of(model)]
    return PublishedSampling(family.guidance, family.guided_channels, family.cache(model.config))


def default_diffusion(model: nn.Module) -> Diffusion:
    """The process that the published models were trained on: linear betas, noise prediction."""
    return Diffusion(variance="learned_range" if model.config.learn_sigma else "fixed_large")


def _example_inputs(model: nn.Module) -> tuple[Any, ...]:
    x = jax.ShapeDtypeStruct((1, *model.config.sample_shape), jnp.float32)
    t = jax.ShapeDtypeStruct((1,), jnp.float32)
    y = jax.ShapeDtypeStruct((1,), jnp.int32) if model.config.num_classes else None
    return x, t, y


def abstract_params(model: nn.Module) -> Params:
    """The tree of parameter shapes and types, without any memory."""
    return jax.tree.map(lambda leaf: leaf, _traced_params(model))  # a dict of the caller's own


@functools.lru_cache(maxsize=TRACED_MODELS)
def _traced_params(model: nn.Module) -> Params:
    """Tracing XL takes seconds, and one run asks several times."""
    return jax.eval_shape(model.init, jax.random.key(0), *_example_inputs(model))["params"]


def init_params(model: nn.Module, key: jax.Array) -> Params:
    """Draws parameters by the published initialisation, without running the network.

    Examples:
      >>> import jax, skipdit_jax as sd
      >>> model = sd.create_model("DiT-S/8", depth=2, hidden_size=16, num_heads=2, input_size=8)
      >>> params = sd.init_params(model, jax.random.key(0))
      >>> params["blocks_0"]["attn"]["qkv"]["kernel"].shape
      (16, 48)
    """
    return model.lazy_init(key, *_example_inputs(model))["params"]
