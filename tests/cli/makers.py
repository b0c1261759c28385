"""Small models on disk for the tests of the command lines."""

import jax
import numpy as np

from skipdit_jax import registry, weights

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


def random_params(model, seed=0):
    """Parameters without the zeros of a new model, which would hide most of the network."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: (0.2 * rng.standard_normal(leaf.shape)).astype(leaf.dtype),
        registry.abstract_params(model),
    )


def save_small(path, metadata=None, family="dit", **fields):
    """Writes a native file, or one of torch if the path ends in .pt, and returns its path."""
    model = registry.build(family, {**SMALL, **fields})
    layout = "torch" if path.suffix == ".pt" else "native"
    weights.export_checkpoint(path, random_params(model), model, layout=layout, **(metadata or {}))
    return path
