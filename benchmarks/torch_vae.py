"""A small PyTorch twin of the decoder of AutoencoderKL, for benchmarks only.

Eager modules under the names of a state dict of diffusers, written from the specification; weights
come through the library's own table.
"""

import itertools
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from skipdit_jax.checkpoints.rules import tensor_entries
from skipdit_jax.checkpoints.rules_vae import rules
from skipdit_jax.encoders.blocks import EPSILON
from skipdit_jax.encoders.vae import AutoencoderKLConfig
from skipdit_jax.trees import flatten


def _norm(channels: int, groups: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups, channels, eps=EPSILON)


class _Resnet(nn.Module):
    def __init__(self, inputs: int, outputs: int, groups: int):
        super().__init__()
        self.norm1, self.norm2 = _norm(inputs, groups), _norm(outputs, groups)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.conv_shortcut = None if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(functional.silu(self.norm1(x)))
        h = self.conv2(functional.silu(self.norm2(h)))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class _Attention(nn.Module):
    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.group_norm = _norm(channels, groups)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        h = self.group_norm(x).flatten(2).transpose(1, 2)[:, None]
        out = functional.scaled_dot_product_attention(self.to_q(h), self.to_k(h), self.to_v(h))
        return x + self.to_out[0](out[:, 0]).transpose(1, 2).reshape(x.shape)


class _Middle(nn.Module):
    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.resnets = nn.ModuleList(_Resnet(channels, channels, groups) for _ in range(2))
        self.attentions = nn.ModuleList([_Attention(channels, groups)])

    def forward(self, x: Tensor) -> Tensor:
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class _Upsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))


class _Level(nn.Module):
    def __init__(self, inputs: int, outputs: int, groups: int, count: int, last: bool):
        super().__init__()
        widths = (inputs, *[outputs] * count)
        self.resnets = nn.ModuleList(_Resnet(*pair, groups) for pair in itertools.pairwise(widths))
        self.upsamplers = nn.ModuleList([] if last else [_Upsample(outputs)])

    def forward(self, x: Tensor) -> Tensor:
        for part in (*self.resnets, *self.upsamplers):
            x = part(x)
        return x


class _Decoder(nn.Module):
    def __init__(self, config: AutoencoderKLConfig):
        super().__init__()
        widths, groups = tuple(config.block_out_channels)[::-1], config.norm_num_groups
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid_block = _Middle(widths[0], groups)
        self.up_blocks = nn.ModuleList(
            _Level(before, width, groups, config.layers_per_block + 1, i == len(widths) - 1)
            for i, (before, width) in enumerate(zip((widths[0], *widths), widths, strict=False))
        )
        self.conv_norm_out = _norm(widths[-1], groups)
        self.conv_out = nn.Conv2d(widths[-1], config.out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(x))
        for level in self.up_blocks:
            x = level(x)
        return self.conv_out(functional.silu(self.conv_norm_out(x)))


class TorchDecoder(nn.Module):
    """Latents, divided by their scaling factor, to pixels: [B,4,h,w] -> [B,3,H,W]."""

    def __init__(self, config: AutoencoderKLConfig):
        super().__init__()
        self.post_quant_conv = nn.Conv2d(config.latent_channels, config.latent_channels, 1)
        self.decoder = _Decoder(config)

    def forward(self, z: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(z))


def torch_decoder(config: AutoencoderKLConfig, params: Mapping) -> TorchDecoder:
    """The twin of the decoder of one of our autoencoders with the same weights."""
    leaves = flatten(params)
    with torch.device("meta"):
        twin = TorchDecoder(config)
    wanted = twin.state_dict().keys()
    state = {
        # A contiguous copy: torch shall have its own layout, not a transposed view of ours.
        name: torch.from_numpy(
            np.array(entry.transform.to_torch(np.asarray(leaves[entry.path])), order="C")
        )
        for name, entry in tensor_entries(rules({}), params).items()
        if name in wanted
    }
    twin.load_state_dict(state, strict=True, assign=True)
    return twin.eval()
