"""Parameters and calls of small networks, made quickly."""

import functools

import jax
import numpy as np

from skipdit_jax import registry
from skipdit_jax.models.conditions import ClassConditioning
from skipdit_jax.models.text_conditions import TextConditioning

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
    conditioning, rng = model.conditioning, np.random.default_rng(1)
    if isinstance(conditioning, ClassConditioning):
        classes = conditioning.num_classes
        return np.arange(3, 3 + 3 * rows, 3) % classes if classes else None
    if isinstance(conditioning, TextConditioning):
        shape = (rows, TEXT_TOKENS, conditioning.width)
        return rng.standard_normal(shape).astype(np.float32)
    return jax.tree.map(
        lambda leaf: np.abs(rng.standard_normal(leaf.shape)).astype(leaf.dtype),
        conditioning.examples(rows),
    )


@functools.partial(jax.jit, static_argnums=0)
def apply(model, params, *inputs):
    """One forward pass as one program: operation by operation each would be compiled by itself."""
    return model.apply({"params": params}, *inputs)
