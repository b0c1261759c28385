"""From a golden's recorded state dict to our model and its parameters, by the weight table."""

import dataclasses

import jax.numpy as jnp

from skipdit_jax.checkpoints.families import DIT
from skipdit_jax.checkpoints.rules import layout
from skipdit_jax.models.dit import DiTConfig
from skipdit_jax.registry import abstract_params, build
from skipdit_jax.trees import unflatten
from tests.parity.goldens import channel_last


def model_of(golden):
    """The model that the golden's config describes."""
    known = {field.name for field in dataclasses.fields(DiTConfig)}
    fields = {name: value for name, value in golden.config.items() if name in known}
    return build("dit", {**fields, "skip": golden.config["cls"] != "DiT"})


def entries_of(model):
    """{torch name: entry} of the model's parameters."""
    config = dataclasses.asdict(model.config)
    return layout(DIT.rules(config), abstract_params(model))


def params_of(golden, model, prefix="sd/"):
    """The recorded parameters as our tree."""
    return unflatten(
        {
            entry.path: jnp.asarray(entry.transform.from_torch(golden[prefix + name]))
            for name, entry in entries_of(model).items()
        }
    )


def inputs_of(golden, prefix=""):
    """(x [B,H,W,C], t [B], y [B]) as the model takes them."""
    return (
        jnp.asarray(channel_last(golden[prefix + "x"])),
        jnp.asarray(golden[prefix + "t"], jnp.float32),
        jnp.asarray(golden[prefix + "y"], jnp.int32),
    )
