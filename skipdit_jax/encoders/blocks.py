"""Parts of the autoencoder of Latent Diffusion (Rombach et al., arXiv 2112.10752), channel-last.

A part works on the last grid axes of its input and takes every axis before them for a batch:
pictures [B,H,W,C] and clips [B,F,H,W,C] go through the same code.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from skipdit_jax.layers.attention import attend
from skipdit_jax.layers.convolution import SPATIAL, Convolution
from skipdit_jax.layers.linear import DType, Linear

EPSILON = 1e-6  # of the group norms, but for those along the frames (docs/notes.md, Autoencoders)

Maps = Float[Array, "*many H W C"]


def group_norm(
    x: Float[Array, "*many C"], groups: int, grid_axes: int, epsilon: float
) -> Float[Array, "*many C"]:
    """Normalises each group of channels over the last grid axes, computed and left in float32.

    Args:
      x: [..., *grid, C].
      groups: of neighbouring channels; divides C.
      grid_axes: how many axes before the channels share their statistics.
      epsilon: added to the variance.
    """
    lead, channels = x.shape[: -grid_axes - 1], x.shape[-1]
    grouped = x.astype(jnp.float32).reshape(*lead, -1, groups, channels // groups)
    centred = grouped - jnp.mean(grouped, axis=(-3, -1), keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=(-3, -1), keepdims=True)
    return (centred * jax.lax.rsqrt(variance + jnp.float32(epsilon))).reshape(x.shape)


class GroupNorm(nn.Module):
    """Group norm (Wu & He, arXiv 1803.08494) with trained scale and bias, a float32 island."""

    groups: int
    grid_axes: int = 2
    epsilon: float = EPSILON
    param_dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*many C"]) -> Float[Array, "*many C"]:
        """Returns float32 of the shape of x."""
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:], self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:], self.param_dtype)
        affine = (1,) * (x.ndim - 1) + x.shape[-1:]
        scale, bias = (p.astype(jnp.float32).reshape(affine) for p in (scale, bias))
        return group_norm(x, self.groups, self.grid_axes, self.epsilon) * scale + bias


class ResnetBlock(nn.Module):
    """x + conv(SiLU(GN(conv(SiLU(GN(x)))))), x through a 1x1 convolution where the width changes.

    Attributes:
      channels: of the output.
      groups: of both norms.
      kernel_size: over rows and columns, or (3, 1, 1) along the frames; the norms' statistics run
        over the same axes.
      epsilon: of both norms.
    """

    channels: int
    groups: int
    kernel_size: tuple[int, ...] = SPATIAL
    epsilon: float = EPSILON
    dtype: DType = jnp.float32
    param_dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: Maps) -> Float[Array, "*many H W C2"]:
        """[..., C] -> [..., channels]."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        norm: tuple[Any, ...] = (self.groups, len(self.kernel_size), self.epsilon, self.param_dtype)
        h = x
        for n in (1, 2):
            h = jax.nn.silu(GroupNorm(*norm, name=f"norm{n}")(h))
            h = Convolution(self.channels, self.kernel_size, **types, name=f"conv{n}")(h)
        if x.shape[-1] != self.channels:
            x = Convolution(self.channels, (1, 1), **types, name="shortcut")(x)
        return x + h


class SpatialAttention(nn.Module):
    """x + attention of all places of a picture to each other, with one head of the full width."""

    groups: int
    dtype: DType = jnp.float32
    param_dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        """[..., H, W, C] -> [..., H, W, C]."""
        *lead, height, width, channels = x.shape
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        h = GroupNorm(self.groups, param_dtype=self.param_dtype, name="norm")(x)
        h = h.reshape(-1, height * width, channels)  # [N,HW,C]
        q, k, v = (Linear(channels, **types, name=name)(h)[..., None, :] for name in "qkv")
        out = attend(q, k, v)[..., 0, :]
        return x + Linear(channels, **types, name="out")(out).reshape(*lead, height, width, -1)


def upsample(x: Maps) -> Float[Array, "*many H2 W2 C"]:
    """Every place twice along both sides: the nearest neighbour."""
    *lead, height, width, channels = x.shape
    twice = jnp.broadcast_to(x[..., :, None, :, None, :], (*lead, height, 2, width, 2, channels))
    return twice.reshape(*lead, 2 * height, 2 * width, channels)
