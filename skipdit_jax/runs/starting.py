"""The first parameters of a run: drawn, or taken from weights that exist already."""

import jax

from skipdit_jax import registry, weights
from skipdit_jax.contracts import Backbone
from skipdit_jax.runs.samples import num_classes
from skipdit_jax.runs.train_config import InitConfig
from skipdit_jax.typing import Params
from skipdit_jax.weights.labels import LABEL_TABLE, other_classes


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
    checkpoint = weights.open_weights(init.ckpt, init.weights or None)
    notes = [f"starting from {checkpoint.path} ({checkpoint.which})"]
    allowed = init.allow_missing
    found = other_classes(checkpoint, model)
    if found is not None:
        allowed = (*allowed, *LABEL_TABLE)
        notes.append(
            f"the label table is drawn anew: the checkpoint has {found.num_classes} classes, "
            f"the model {num_classes(model)}"
        )
    params = weights.load_opened(checkpoint, model, allowed, key)
    if init.allow_missing:
        notes.append(f"drawn anew where the checkpoint has none: {', '.join(init.allow_missing)}")
    return params, notes
