"""Weights of one number of classes for a model of another: all but the label table."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from skipdit_jax.checkpoints import Checkpoint, config_fields
from skipdit_jax.contracts import Network
from skipdit_jax.models.conditions import ClassConditioning
from skipdit_jax.trees import matches_glob
from skipdit_jax.weights.networks import fields_of

LABEL_TABLE = ("y_embedder*",)
"""Of every family, in torch's names and in ours."""


def other_classes(checkpoint: Checkpoint, network: Network) -> ClassConditioning | None:
    """The classes of a checkpoint if its label table has other rows than the model's; else None."""
    fields = fields_of(network)
    found = _classes(config_fields(checkpoint, fields.get("num_heads")))
    return None if _rows(found) == _rows(_classes(fields)) else found


def without_label_table(checkpoint: Checkpoint) -> Checkpoint:
    """The same file, read as if it had none."""
    kept = {n: h for n, h in checkpoint.handles.items() if not matches_glob(n, LABEL_TABLE)}
    return dataclasses.replace(checkpoint, handles=kept)


def _classes(fields: Mapping[str, Any]) -> ClassConditioning:
    return ClassConditioning(fields.get("num_classes", 0), fields.get("class_dropout_prob", 0.0))


def _rows(classes: ClassConditioning) -> int:
    return classes.num_classes + classes.has_null


def allows_new_labels(checkpoint: Checkpoint, allow_missing: Sequence[str]) -> bool:
    """Whether what a file may lack includes its whole label table."""
    table = [name for name in checkpoint.handles if matches_glob(name, LABEL_TABLE)]
    return all(matches_glob(name, allow_missing) for name in table)
