"""Parameters and calls of small networks, made quickly."""

import functools

import jax
import numpy as np

from skipdit_jax import registry
from skipdit_jax.models.conditions import ClassConditioning

TEXT_TOKENS = 5


def random_params(model, seed=0):
    """Parameters without the zeros of a new model, which would hide most of the network."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: (0.2 * rng.standard_normal(leaf.shape)).astype(leaf.dtype),
        registry.abstract_params(model),
    )


def condition_for(model, rows=2):
    """What a user gives for so many samples: labels, embeddings of texts, or nothing."""
    conditioning = model.conditioning
    if isinstance(conditioning, ClassConditioning):
        classes = conditioning.num_classes
        return [(3 + 3 * row) % classes for row in range(rows)] if classes else None
    shape = (rows, TEXT_TOKENS, conditioning.width)
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


@functools.partial(jax.jit, static_argnums=0)
def apply(model, params, *inputs):
    """One forward pass as one program: operation by operation each would be compiled by itself."""
    return model.apply({"params": params}, *inputs)
