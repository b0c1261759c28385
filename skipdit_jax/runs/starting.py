"""The first parameters of a run: drawn, or taken from weights that exist already."""

import dataclasses

import jax

from skipdit_jax import registry, weights
from skipdit_jax.checkpoints import Checkpoint, config_fields
from skipdit_jax.contracts import Backbone
from skipdit_jax.models.conditions import ClassConditioning
from skipdit_jax.runs.samples import num_classes
from skipdit_jax.runs.train_config import InitConfig
from skipdit_jax.trees import matches_glob
from skipdit_jax.typing import Params

LABEL_TABLE = ("y_embedder*",)
"""Of every family, in torch's names and in ours."""


def first_params(model: Backbone, key: jax.Array, init: InitConfig) -> tuple[Params, list[str]]:
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
    checkpoint = weights.open_weights(
        init.ckpt, init.weights or None, init.key or None, init.prefix or None
    )
    notes = [f"starting from {checkpoint.path} ({checkpoint.which})"]
    allowed = init.allow_missing
    heads = getattr(model.config, "num_heads", None)
    fields = config_fields(checkpoint, heads)
    found = ClassConditioning(fields.get("num_classes", 0), fields.get("class_dropout_prob", 0.0))
    own = ClassConditioning(num_classes(model), getattr(model.config, "class_dropout_prob", 0.0))
    if found.rows != own.rows:
        checkpoint, allowed = _without_labels(checkpoint), (*allowed, *LABEL_TABLE)
        notes.append(
            f"the label table is drawn anew: the checkpoint has {found.described}, the model "
            f"{own.described}"
        )
    else:
        notes += weights.assumptions(checkpoint, model)
    notes += checkpoint.notes
    params = weights.load_opened(checkpoint, model, allowed, key)
    if init.allow_missing:
        notes.append(f"drawn anew where the checkpoint has none: {', '.join(init.allow_missing)}")
    return params, notes


def _without_labels(checkpoint: Checkpoint) -> Checkpoint:
    kept = {n: h for n, h in checkpoint.handles.items() if not matches_glob(n, LABEL_TABLE)}
    return dataclasses.replace(checkpoint, handles=kept)
