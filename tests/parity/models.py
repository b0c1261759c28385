"""From a golden's recorded state dict to our model and its parameters, by the weight table."""

import dataclasses

import jax.numpy as jnp

from skipdit_jax import registry
from skipdit_jax.checkpoints.rules import tensor_entries
from skipdit_jax.registry import abstract_params, build
from skipdit_jax.trees import unflatten
from tests.parity.goldens import channel_last

PLAIN = ("DiT", "Latte")  # the originals' names of models without skips


def fields_of_config(config, **changes):
    """(family, fields of its config) for the constructor's arguments of an original."""
    name = config.get("cls", "DiT")  # set c holds plain DiTs and does not say so
    family = "latte" if "latte" in name.lower() else "dit"
    known = {field.name for field in dataclasses.fields(registry.FAMILIES[family].config)}
    fields = {name: value for name, value in config.items() if name in known}
    return family, {**fields, "skip": name not in PLAIN, **changes}


def model_of(golden, **changes):
    """The model that the golden's config describes; a Latte of extras 1 has no classes."""
    if golden.config.get("extras") == 1:
        changes = {"num_classes": 0, "class_dropout_prob": 0.0, **changes}
    family, fields = fields_of_config(golden.config, **changes)
    return build(family, fields)


def entries_of(model):
    """{torch name: entry} of the model's parameters."""
    rules = registry.layout_of(model).rules
    return tensor_entries(rules(dataclasses.asdict(model.config)), abstract_params(model))


def params_of(golden, model, prefix="sd/"):
    """The recorded parameters as our tree."""
    return unflatten(
        {
            entry.path: jnp.asarray(entry.transform.from_torch(golden[prefix + name]))
            for name, entry in entries_of(model).items()
        }
    )


def inputs_of(golden, prefix=""):
    """(x [B,H,W,C] or [B,F,H,W,C], t [B], y [B]) as the model takes them."""
    return (
        jnp.asarray(channel_last(golden[prefix + "x"])),
        jnp.asarray(golden[prefix + "t"], jnp.float32),
        jnp.asarray(golden[prefix + "y"], jnp.int32),
    )
