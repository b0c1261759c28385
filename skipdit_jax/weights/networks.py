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
from skipdit_jax.checkpoints.layouts import OWN_NAMES, Layouts
from skipdit_jax.checkpoints.load import NATIVE
from skipdit_jax.checkpoints.rules_dit import LABELS
from skipdit_jax.contracts import Network
from skipdit_jax.published import CLASS_COUNTS, CLASS_DROPOUT
from skipdit_jax.typing import Params

RUN_WEIGHTS = "ema.safetensors"
"""What a training run leaves for sampling, in its run folder."""


def open_known(
    source: str | os.PathLike[str],
    weights: str | None = None,
    key: str | None = None,
    prefix: str | None = None,
    layouts: Layouts | None = None,
) -> Checkpoint:
    """Opens a file of this machine that is of any of these families; see `open_checkpoint`.

    None are those of diffusion models and autoencoders.
    """
    known = registry.weight_layouts() if layouts is None else layouts
    return open_checkpoint(source, known, weights, key, prefix)


def network_of(
    checkpoint: Checkpoint, families: Collection[str], wanted: str, **overrides: Any
) -> Any:
    """Makes the network that an opened checkpoint belongs to.

    Args:
      checkpoint: of `open_known`.
      families: names of those that will do.
      wanted: what they are, for the error.
      **overrides: fields of the config; `num_heads` cannot be read off an unpublished size. With
        `num_classes` as many as the label table of a state dict has rows, none of them is the null.

    Raises:
      CheckpointError: it is of another family, or states what makes no network.
    """
    if checkpoint.family.name not in families:
        raise CheckpointError(
            f"{checkpoint.path}: holds a {checkpoint.family.label} model, wanted {wanted}"
        )
    own = config_fields(checkpoint, overrides.get("num_heads"))
    fields = {**own, **_null_row(checkpoint, overrides.get("num_classes")), **overrides}
    shown = {} if checkpoint.which == NATIVE else fields  # a native file has them all
    if untold := [name for name, value in shown.items() if value is None]:
        names = ", ".join(untold)
        raise CheckpointError(
            f"{checkpoint.path}: does not show {names}: give {names} (--image-size)"
        )
    try:
        network = registry.build(checkpoint.family.name, fields)
    except (TypeError, ValueError) as error:  # a native file may state anything
        raise CheckpointError(f"{checkpoint.path}: its config makes no model: {error}") from error
    check_claims(checkpoint, fields_of(network))
    return network


def _null_row(checkpoint: Checkpoint, classes: int | None) -> dict[str, float]:
    """Whether the label table of a state dict has a null row, given the number of classes."""
    rows = _label_rows(checkpoint)
    if not rows or classes is None:
        return {}
    return {"class_dropout_prob": 0.0 if classes == rows else CLASS_DROPOUT}


def _label_rows(checkpoint: Checkpoint) -> int:
    """Of the label table of a state dict; 0 where the file says itself what they are."""
    table = None if checkpoint.which == NATIVE else checkpoint.handles.get(LABELS)
    return table.shape[0] if table is not None and table.shape else 0


def assumptions(checkpoint: Checkpoint, network: Network) -> list[str]:
    """What a user should know of what a state dict does not say, a line each.

    Fixed tables that it lacks or has for another size, and which rows of its label table are
    classes.
    """
    if checkpoint.which == NATIVE:
        return []
    notes, rows = [], _label_rows(checkpoint)
    classes = getattr(network.config, "num_classes", 0)
    if rows and rows == classes:
        notes.append(
            f"the label table has {rows} rows: {rows} classes and no null, so without guidance; "
            f"--num-classes {rows - 1} takes the last row for the null"
        )
    elif rows and classes not in CLASS_COUNTS:
        notes.append(
            f"the label table has {rows} rows: {rows - 1} classes and the null; --num-classes "
            f"{rows} takes all rows for classes"
        )
    for name, table in checkpoint.family.fixed_tables(fields_of(network)).items():
        handle = checkpoint.handles.get(name)
        if handle is None:
            notes.append(f"{name} is not in the file: the model computes it")
        elif handle.shape != table.shape and name not in checkpoint.family.growing:
            found, own = (list(shape) for shape in (handle.shape, table.shape))
            notes.append(f"{name} of the file is {found}, the model computes its own {own}")
    return notes


def fields_of(network: Network) -> dict[str, Any]:
    """The plain fields of a network's config, as files hold them."""
    return dataclasses.asdict(network.config)


def layouts_of(network: Network) -> tuple[str, ...]:
    """The names that state dicts of a network's family may be in: its own, and its dialects."""
    dialects = registry.layout_of(network).dialects
    return (OWN_NAMES, *(dialect.name for dialect in dialects))


def filled(checkpoint: Checkpoint, network: Network, **options: Any) -> Params:
    """Reads the parameters of a network; see `fill` for options and errors."""
    abstract = registry.abstract_params(network)
    return fill(checkpoint, abstract, fields_of(network), **options)
