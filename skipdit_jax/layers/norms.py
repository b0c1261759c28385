"""Layer norm and RMS norm as float32 islands."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

DType = jax.typing.DTypeLike

EPSILON = (
    1e-6  # of every norm in the published models but BERT's (docs/notes.md, Parts of DiT and Latte)
)


def layer_norm(x: Float[Array, "*rows D"], epsilon: float = EPSILON) -> Float[Array, "*rows D"]:
    """Normalises the last axis to mean 0 and variance 1, without affine parameters.

    Computed in float32 whatever the input type, and left in float32: the modulation that follows
    belongs to the same island.
    """
    x = x.astype(jnp.float32)
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + jnp.float32(epsilon))


class LayerNorm(nn.Module):
    """Layer norm with trained scale and bias, computed and returned in float32."""

    param_dtype: DType = jnp.float32
    epsilon: float = EPSILON

    @nn.compact
    def __call__(self, x: Float[Array, "*rows D"]) -> Float[Array, "*rows D"]:
        """Returns float32 of the shape of x."""
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:], self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:], self.param_dtype)
        affine = (1,) * (x.ndim - 1) + x.shape[-1:]
        scale, bias = (p.astype(jnp.float32).reshape(affine) for p in (scale, bias))
        return layer_norm(x, self.epsilon) * scale + bias


class RmsNorm(nn.Module):
    """x / rms(x) with a trained scale (Zhang & Sennrich, arXiv 1910.07467), in float32."""

    param_dtype: DType = jnp.float32
    epsilon: float = EPSILON

    @nn.compact
    def __call__(self, x: Float[Array, "*rows D"]) -> Float[Array, "*rows D"]:
        """Returns float32 of the shape of x."""
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:], self.param_dtype)
        x = x.astype(jnp.float32)
        square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
        wide = scale.astype(jnp.float32).reshape((1,) * (x.ndim - 1) + x.shape[-1:])
        return x * jax.lax.rsqrt(square + jnp.float32(self.epsilon)) * wide
