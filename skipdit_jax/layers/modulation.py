"""Adaptive layer norm (Peebles & Xie, arXiv 2212.09748, section 3.2), a float32 island."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from skipdit_jax.layers.linear import DType, Linear
from skipdit_jax.layers.norms import layer_norm

Vector = Float[Array, "B *rows D"]


def modulate(x: Float[Array, "B *tokens D"], shift: Vector, scale: Vector) -> Array:
    """LN(x) (1 + scale) + shift, in float32."""
    return layer_norm(x) * (1.0 + scale) + shift


def gated(x: Float[Array, "B *tokens D"], gate: Vector, update: Array) -> Array:
    """X + gate * update: summed in float32, returned in the type of x."""
    return (x.astype(jnp.float32) + gate * update.astype(jnp.float32)).astype(x.dtype)


def modulation_linear(parts: int, width: int, dtype: DType, param_dtype: DType) -> Linear:
    """The adaLN linear D -> parts * D; zero at the start, so that blocks begin as identities."""
    zeros = nn.initializers.zeros
    return Linear(parts * width, dtype, param_dtype, out_dtype=jnp.float32, kernel_init=zeros)


def modulation(linear: Linear, c: Float[Array, "B *rows D"]) -> Float[Array, "B *rows P"]:
    """linear(SiLU(c)): the vectors of a block side by side, P = parts * D."""
    return linear(jax.nn.silu(c.astype(jnp.float32)))


def modulation_vectors(
    linear: Linear, c: Float[Array, "B *rows P"], h: Float[Array, "B *tokens D"]
) -> list[Array]:
    """Splits `modulation` of c into vectors [B, *rows, 1.., D] that broadcast over h.

    A c that is wider than h is that already: made in advance, see `contracts.StagedModel.prepare`.
    """
    width = h.shape[-1]
    vectors = modulation(linear, c) if c.shape[-1] == width else c
    vectors = vectors.reshape(c.shape[:-1] + (1,) * (h.ndim - c.ndim) + (-1,))
    return jnp.split(vectors, vectors.shape[-1] // width, axis=-1)
