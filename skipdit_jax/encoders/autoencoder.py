"""Encoder and decoder of the autoencoders, for pictures and, with temporal blocks, for clips.

The decoder of Stable Video Diffusion (Blattmann et al., arXiv 2311.15127) follows every block by
one along the frames and mixes the two.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from skipdit_jax.encoders.blocks import (
    EPSILON,
    GroupNorm,
    Maps,
    ResnetBlock,
    SpatialAttention,
    upsample,
)
from skipdit_jax.layers.convolution import ALONG_FRAMES, SPATIAL, Convolution
from skipdit_jax.layers.linear import DType

TEMPORAL_EPSILON = 1e-5  # of the norms along the frames (docs/notes.md, Autoencoders)

Clips = Float[Array, "B F H W C"]


class SpatioTemporalBlock(nn.Module):
    """(1 - s) spatial + s temporal, where temporal is a block along the frames of spatial.

    s = sigmoid(mix_factor) weighs the temporal one; sums in float32.
    """

    channels: int
    groups: int
    dtype: DType = jnp.float32
    param_dtype: DType = jnp.float32

    def setup(self):
        """Makes the parts, named as their parameters."""
        sizes, types = (self.channels, self.groups), (self.dtype, self.param_dtype)
        self.spatial = ResnetBlock(*sizes, SPATIAL, EPSILON, *types)
        self.temporal = ResnetBlock(*sizes, ALONG_FRAMES, TEMPORAL_EPSILON, *types)
        self.mix_factor = self.param("mix_factor", nn.initializers.zeros, (1,), self.param_dtype)

    def __call__(self, x: Clips) -> Float[Array, "B F H W C2"]:
        """[B,F,H,W,C] -> [B,F,H,W,channels]."""
        spatial = self.spatial(x)
        temporal = self.temporal(spatial)
        weight = jax.nn.sigmoid(self.mix_factor.astype(jnp.float32)).reshape((1,) * x.ndim)
        spatial, temporal = (part.astype(jnp.float32) for part in (spatial, temporal))
        return ((1 - weight) * spatial + weight * temporal).astype(self.dtype)


class Level(nn.Module):
    """The blocks of one resolution, then the way to the next.

    Attributes:
      config: sizes and types.
      block: `ResnetBlock` or `SpatioTemporalBlock`.
      channels: of its blocks.
      count: of its blocks.
      change: "downsample", "upsample", or "" for the last level.
    """

    config: Any
    block: Any
    channels: int
    count: int
    change: str = ""

    def setup(self):
        """Makes the parts, named as their parameters."""
        config = self.config
        block = self.block
        groups = config.norm_num_groups
        self.resnets = [block(self.channels, groups, **config.types) for _ in range(self.count)]
        if self.change == "downsample":
            # One zero at the right and below, none at the left and above.
            self.downsample = Convolution(
                self.channels, stride=2, padding=((0, 1), (0, 1)), **config.types
            )
        elif self.change:
            self.upsample = Convolution(self.channels, **config.types)

    def __call__(self, x: Maps) -> Float[Array, "*many H2 W2 C2"]:
        """[..., H, W, C] -> [..., H/2 (rounded down) or 2H or H, ..., channels]."""
        for resnet in self.resnets:
            x = resnet(x)
        if self.change == "downsample":
            return self.downsample(x)
        return self.upsample(upsample(x)) if self.change else x


class Middle(nn.Module):
    """A block, attention within each picture, further blocks."""

    config: Any
    block: Any
    count: int = 2

    def setup(self):
        """Makes the parts, named as their parameters."""
        config, block = self.config, self.block
        channels, groups = config.block_out_channels[-1], config.norm_num_groups
        self.resnets = [block(channels, groups, **config.types) for _ in range(self.count)]
        self.attention = SpatialAttention(groups, **config.types)

    def __call__(self, x: Maps) -> Maps:
        """[..., H, W, C] -> [..., H, W, C]."""
        first, *others = self.resnets
        x = self.attention(first(x))
        for resnet in others:
            x = resnet(x)
        return x


class Encoder(nn.Module):
    """Pictures to raw moments, each level at half the resolution of the one before."""

    config: Any

    def setup(self):
        """Makes the parts, named as their parameters."""
        config = self.config
        widths, last = config.block_out_channels, len(config.block_out_channels) - 1
        self.conv_in = Convolution(widths[0], **config.types)
        self.down_blocks = [
            Level(
                config,
                ResnetBlock,
                width,
                count=config.layers_per_block,
                change="" if i == last else "downsample",
            )
            for i, width in enumerate(widths)
        ]
        self.mid = Middle(config, ResnetBlock)
        self.norm_out = GroupNorm(config.norm_num_groups, param_dtype=config.types["param_dtype"])
        self.conv_out = Convolution(2 * config.latent_channels, **config.types)

    def __call__(self, x: Float[Array, "*many H W C"]) -> Float[Array, "*many h w c"]:
        """[..., H, W, 3] -> [..., h, w, 2 * latent_channels]."""
        x = self.conv_in(x)
        for level in self.down_blocks:
            x = level(x)
        return self.conv_out(jax.nn.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """Latents to pictures, each level at twice the resolution of the one before.

    Attributes:
      config: sizes and types.
      temporal: blocks see neighbouring frames, and so does a last convolution.
    """

    config: Any
    temporal: bool = False

    def setup(self):
        """Makes the parts, named as their parameters."""
        config = self.config
        block = SpatioTemporalBlock if self.temporal else ResnetBlock
        widths, last = config.block_out_channels[::-1], len(config.block_out_channels) - 1
        self.conv_in = Convolution(widths[0], **config.types)
        self.mid = Middle(config, block, config.layers_per_block if self.temporal else 2)
        self.up_blocks = [
            Level(
                config,
                block,
                width,
                count=config.layers_per_block + 1,
                change="" if i == last else "upsample",
            )
            for i, width in enumerate(widths)
        ]
        self.norm_out = GroupNorm(config.norm_num_groups, param_dtype=config.types["param_dtype"])
        self.conv_out = Convolution(config.out_channels, **config.types)
        if self.temporal:
            self.time_conv_out = Convolution(config.out_channels, ALONG_FRAMES, **config.types)

    def __call__(self, z: Float[Array, "*many h w c"]) -> Float[Array, "*many H W C"]:
        """[..., h, w, latent_channels] -> [..., H, W, 3]; temporal: [B,F,...] only."""
        h = self.mid(self.conv_in(z))
        for level in self.up_blocks:
            h = level(h)
        h = self.conv_out(jax.nn.silu(self.norm_out(h)))
        return self.time_conv_out(h) if self.temporal else h
