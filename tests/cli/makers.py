"""Small models on disk for the tests of the command lines."""

from skipdit_jax import registry, weights
from tests.networks import random_params

SMALL = {
    "input_size": 4,
    "patch_size": 2,
    "in_channels": 1,
    "hidden_size": 16,
    "depth": 4,
    "num_heads": 2,
    "num_classes": 10,
    "skip": True,
}
STEPS = 8


def small_model(**fields):
    return registry.build("dit", {**SMALL, **fields})


def save_small(path, metadata=None, family="dit", **fields):
    """Writes a native file, or one of torch if the path ends in .pt, and returns its path."""
    model = registry.build(family, {**SMALL, **fields})
    layout = "torch" if path.suffix == ".pt" else "native"
    weights.export_checkpoint(path, random_params(model), model, layout=layout, **(metadata or {}))
    return path
