"""From an opened file to a network of whatever family."""

import dataclasses
import os
from collections.abc import Collection
from typing import Any

from skipdit_jax import registry
from skipdit_jax.checkpoints import (
    Checkpoint,
    CheckpointError,
    config_fields,
    fill,
    open_checkpoint,
)
from skipdit_jax.checkpoints.claims import check_claims
from skipdit_jax.contracts import Network
from skipdit_jax.typing import Params

RUN_WEIGHTS = "ema.safetensors"
"""What a training run leaves for sampling, in its run folder."""


def open_known(source: str | os.PathLike[str], weights: str | None = None) -> Checkpoint:
    """Opens a file of this machine that is of any family known here; see `open_checkpoint`."""
    return open_checkpoint(source, registry.weight_layouts(), weights)


def network_of(
    checkpoint: Checkpoint, families: Collection[str], wanted: str, **overrides: Any
) -> Any:
    """Makes the network that an opened checkpoint belongs to.

    Args:
      checkpoint: of `open_known`.
      families: names of those that will do.
      wanted: what they are, for the error.
      **overrides: fields of the config; `num_heads` cannot be read off an unpublished size.

    Raises:
      CheckpointError: it is of another family, or states what makes no network.
    """
    if checkpoint.family.name not in families:
        raise CheckpointError(
            f"{checkpoint.path}: holds a {checkpoint.family.label} model, wanted {wanted}"
        )
    fields = config_fields(checkpoint, overrides.get("num_heads"))
    try:
        network = registry.build(checkpoint.family.name, {**fields, **overrides})
    except (TypeError, ValueError) as error:  # a native file may state anything
        raise CheckpointError(f"{checkpoint.path}: its config makes no model: {error}") from error
    check_claims(checkpoint, fields_of(network))
    return network


def fields_of(network: Network) -> dict[str, Any]:
    """The plain fields of a network's config, as files hold them."""
    return dataclasses.asdict(network.config)


def filled(checkpoint: Checkpoint, network: Network, **options: Any) -> Params:
    """Reads the parameters of a network; see `fill` for options and errors."""
    abstract = registry.abstract_params(network)
    return fill(checkpoint, abstract, fields_of(network), **options)
