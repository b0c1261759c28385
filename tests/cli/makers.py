"""Small models on disk for the tests of the command lines."""

import jax

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
    leaves, tree = jax.tree.flatten(registry.abstract_params(model))
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return tree.unflatten(
        [0.2 * jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
    )


def save_small(path, metadata=None, **fields):
    """Writes a native file (or by its suffix one of torch) and returns its path."""
    model = small_model(**fields)
    layout = "torch" if path.suffix == ".pt" else "native"
    weights.export_checkpoint(
        path, random_params(model), model, layout=layout, **({} if metadata is None else metadata)
    )
    return path


