"""Parameters and calls of small networks, made quickly."""

import functools

import jax
import numpy as np

from skipdit_jax import registry


def random_params(model, seed=0):
    """Parameters without the zeros of a new model, which would hide most of the network."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: (0.2 * rng.standard_normal(leaf.shape)).astype(leaf.dtype),
        registry.abstract_params(model),
    )


@functools.partial(jax.jit, static_argnums=0)
def apply(model, params, *inputs):
    """One forward pass as one program: operation by operation each would be compiled by itself."""
    return model.apply({"params": params}, *inputs)
