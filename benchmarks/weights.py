"""Weights and inputs for timing: random, none of them zero, cheap to make at any size."""

import flax.linen as nn
import jax
import numpy as np

from skipdit_jax.registry import abstract_params
from skipdit_jax.typing import Params

SPREAD = 0.02  # keeps activations near 1 through 28 blocks


def random_params(model: nn.Module, seed: int = 0) -> Params:
    """Normal draws in the model's parameter type: fresh weights hold zeros, and gates of zero."""
    rng = np.random.default_rng(seed)

    def draw(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        values = rng.standard_normal(leaf.shape, np.float32)
        return jax.numpy.asarray((SPREAD * values).astype(leaf.dtype))

    return jax.tree.map(draw, abstract_params(model))
