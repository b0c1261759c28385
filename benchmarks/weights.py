"""Weights and inputs for timing: random, none of them zero, cheap to make at any size."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np

from skipdit_jax import registry
from skipdit_jax.contracts import Backbone
from skipdit_jax.registry import abstract_params
from skipdit_jax.registry.samples import num_classes
from skipdit_jax.trees import flatten, unflatten
from skipdit_jax.typing import Params

BIAS_SPREAD = 0.1
NEAR_ONE = ("scale", "variance")  # last names of their paths
SPREAD = 0.02  # keeps activations near 1 through 28 blocks


def random_params(model: nn.Module, seed: int = 0) -> Params:
    """Normal draws in the model's parameter type: fresh weights hold zeros, and gates of zero."""
    rng = np.random.default_rng(seed)

    def draw(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        values = rng.standard_normal(leaf.shape, np.float32)
        return jax.numpy.asarray((SPREAD * values).astype(leaf.dtype))

    return jax.tree.map(draw, abstract_params(model))


def random_condition(model: Backbone, rows: int, seed: int = 0) -> Any:
    """What a model is conditioned on: the first classes, or embeddings of texts from a generator.

    Args:
      model: any backbone; an unconditional one gets None.
      rows: samples.
      seed: of the embeddings.
    """
    if classes := num_classes(model):
        return np.arange(rows, dtype=np.int32) % classes
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: rng.standard_normal(leaf.shape, np.float32).astype(leaf.dtype),
        model.conditioning.examples(rows),
    )


def scaled_params(network: nn.Module, seed: int = 0, gain: float = 1.0) -> Params:
    """Draws that keep activations near 1: kernels by their fan-in, norms near the identity.

    Args:
      network: of any family.
      seed: of the draws.
      gain: of the kernels; √2 keeps what differs between inputs through many ReLUs.
    """
    rng = np.random.default_rng(seed)

    def draw(path: str, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        spread = gain * np.prod(leaf.shape[:-1]) ** -0.5 if leaf.ndim > 1 else BIAS_SPREAD
        values = spread * rng.standard_normal(leaf.shape, np.float32) + path.endswith(NEAR_ONE)
        return jax.numpy.asarray(values.astype(leaf.dtype))

    leaves = flatten(registry.abstract_params(network))
    return unflatten({path: draw(path, leaf) for path, leaf in leaves.items()})
