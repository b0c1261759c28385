"""The first parameters of a run: drawn, or taken from weights that exist already."""

import dataclasses

import flax.linen as nn
import jax

from skipdit_jax import registry, weights
from skipdit_jax.checkpoints import Checkpoint, config_fields
from skipdit_jax.runs.config import InitConfig
from skipdit_jax.trees import matches_glob
from skipdit_jax.typing import Params

LABEL_TABLE = ("y_embedder*",)
"""Of every family, in torch's names and in ours."""


def first_params(model: nn.Module, key: jax.Array, init: InitConfig) -> tuple[Params, list[str]]:
    """Returns parameters to start from, and what a user should know of them, a line each.

    A checkpoint of another number of classes keeps everything but its label table, which is drawn
    anew.

    Args:
      model: the backbone.
      key: for what is drawn.
      init: see there.

    Raises:
      CheckpointError: the weights cannot be read or do not fit.
    """
    if not init.ckpt:
        if init.allow_missing:
            raise ValueError(f"init.allow_missing: {init.allow_missing} without init.ckpt")
        return registry.init_params(model, key), []
    checkpoint = weights.open_weights(init.ckpt, init.weights or None)
    notes = [f"starting from {checkpoint.path} ({checkpoint.which})"]
    allowed = init.allow_missing
    found = config_fields(checkpoint, getattr(model.config, "num_heads", None))["num_classes"]
    if found != model.config.num_classes:
        checkpoint, allowed = _without_labels(checkpoint), (*allowed, *LABEL_TABLE)
        notes.append(
            f"the label table is drawn anew: the checkpoint has {found} classes, the model "
            f"{model.config.num_classes}"
        )
    params = weights.load_opened(checkpoint, model, allowed, key)
    if init.allow_missing:
        notes.append(f"drawn anew where the checkpoint has none: {', '.join(init.allow_missing)}")
    return params, notes


def _without_labels(checkpoint: Checkpoint) -> Checkpoint:
    kept = {n: h for n, h in checkpoint.handles.items() if not matches_glob(n, LABEL_TABLE)}
    return dataclasses.replace(checkpoint, handles=kept)
