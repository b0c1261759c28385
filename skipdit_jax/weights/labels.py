"""Weights of one number of classes for a model of another: all but the label table."""

import dataclasses
from collections.abc import Sequence

from skipdit_jax.checkpoints import Checkpoint, config_fields
from skipdit_jax.contracts import Network
from skipdit_jax.trees import matches_glob
from skipdit_jax.weights.networks import fields_of

LABEL_TABLE = ("y_embedder*",)
"""Of every family, in torch's names and in ours."""


def other_classes(checkpoint: Checkpoint, network: Network) -> int | None:
    """How many classes a checkpoint has if the model has another number; None if they agree."""
    fields = fields_of(network)
    found = config_fields(checkpoint, fields.get("num_heads")).get("num_classes", 0)
    return None if found == fields.get("num_classes", 0) else found


def without_label_table(checkpoint: Checkpoint) -> Checkpoint:
    """The same file, read as if it had none."""
    kept = {n: h for n, h in checkpoint.handles.items() if not matches_glob(n, LABEL_TABLE)}
    return dataclasses.replace(checkpoint, handles=kept)


def allows_new_labels(checkpoint: Checkpoint, allow_missing: Sequence[str]) -> bool:
    """Whether what a file may lack includes its whole label table."""
    table = [name for name in checkpoint.handles if matches_glob(name, LABEL_TABLE)]
    return all(matches_glob(name, allow_missing) for name in table)
