"""PixArt-alpha and LatteT2V, plain and with skips, in eager PyTorch, float32; see `torch_twin`.

Written from the description of the published functions (arXiv 2310.00426, 2401.03048, 2411.17616),
with the names of diffusers. As the published LatteT2V does, the twin repeats the text for every
frame and projects it anew for each.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.torch_twin import (
    PatchEmbedding,
    SkipLinear,
    Waves,
    loaded,
    modulate,
    unpatchify,
)
from skipdit_jax.checkpoints import rules_latte_t2v, rules_pixart
from skipdit_jax.layers.embedders import NUM_FREQUENCIES
from skipdit_jax.layers.norms import EPSILON
from skipdit_jax.layers.positions import MAX_PERIOD
from skipdit_jax.models.latte_t2v import LatteT2VConfig
from skipdit_jax.models.pixart import PixArtConfig
from skipdit_jax.models.text import SIZE_PARTS, UNSEEN, TextConfig


def _gelu(x: Tensor) -> Tensor:
    return functional.gelu(x, approximate="tanh")


class TwoLinears(nn.Module):
    """A linear, an activation, a linear."""

    def __init__(self, inputs: int, hidden: int, width: int, activation=functional.silu):
        super().__init__()
        self.linear_1 = nn.Linear(inputs, hidden)
        self.linear_2 = nn.Linear(hidden, width)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(self.activation(self.linear_1(x)))


class _Widening(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.proj = nn.Linear(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return _gelu(self.proj(x))


class FeedForward(nn.Module):
    """D -> hidden -> D."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        narrowing = nn.Linear(hidden, width)
        self.net = nn.Sequential(_Widening(width, hidden), nn.Identity(), narrowing)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor, context: Tensor, bias: Tensor | None = None) -> Tensor:
        q, k, v = (
            linear(source).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for linear, source in ((self.to_q, x), (self.to_k, context), (self.to_v, context))
        )
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.to_out[0](out.transpose(1, 2).flatten(2))


class _Block(nn.Module):
    """Of a picture with its text; along the frames without one."""

    def __init__(self, config: TextConfig, reads: bool = True):
        super().__init__()
        width, heads = config.hidden_size, config.num_heads
        self.scale_shift_table = nn.Parameter(torch.zeros(6, width))
        self.attn1 = _Attention(width, heads)
        if reads:
            self.attn2 = _Attention(width, heads)
        self.ff = FeedForward(width, int(width * config.mlp_ratio))

    def forward(
        self, x: Tensor, vectors: Tensor, text: Tensor | None = None, bias: Tensor | None = None
    ) -> Tensor:
        shared = (self.scale_shift_table + vectors).unbind(1)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = shared
        normed = modulate(x, shift_a, scale_a)
        x = x + gate_a[:, None] * self.attn1(normed, normed)
        if text is not None:
            x = x + self.attn2(x, text, bias)
        return x + gate_m[:, None] * self.ff(modulate(x, shift_m, scale_m))


class TorchPixArt(nn.Module):
    """(x [B,C,H,W], t [B], text [B,L,E], mask [B,L], size [B,3]) -> [B,C_out,H,W]."""

    def __init__(self, config: TextConfig):
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.waves = Waves()
        self.pos_embed = PatchEmbedding(config)
        places = torch.from_numpy(_places(config))
        self.register_buffer("places", places, persistent=False)
        embedders = {"timestep_embedder": _embedder(width)}
        if config.size_condition:
            parts = ("resolution_embedder", "aspect_ratio_embedder")
            embedders |= {part: _embedder(width // SIZE_PARTS) for part in parts}
        self.adaln_single = nn.ModuleDict(
            {"emb": nn.ModuleDict(embedders), "linear": nn.Linear(width, 6 * width)}
        )
        self.caption_projection = TwoLinears(config.text_width, width, width, _gelu)
        self.transformer_blocks = nn.ModuleList(_Block(config) for _ in range(config.depth))
        self.scale_shift_table = nn.Parameter(torch.zeros(2, width))
        self.proj_out = nn.Linear(width, config.patch_size**2 * config.out_channels)
        if config.skip:
            count = config.depth // 2
            norms = (nn.LayerNorm(2 * width, eps=EPSILON) for _ in range(count))
            self.skip_norms = nn.ModuleList(norms)
            self.skip_linears = nn.ModuleList(SkipLinear(width) for _ in range(count))

    def vectors(self, t: Tensor, size: Tensor | None) -> tuple[Tensor, Tensor]:
        """Of the final layer [B,1,D], and of all blocks [B,6,D]."""
        embedders = self.adaln_single["emb"]
        e = embedders["timestep_embedder"](self.waves(t))
        if size is not None:
            sides = embedders["resolution_embedder"](self.waves(size[:, :2].flatten()))
            ratio = embedders["aspect_ratio_embedder"](self.waves(size[:, 2]))
            e = e + torch.cat([sides.view(len(t), -1), ratio], dim=-1)
        shared = self.adaln_single["linear"](functional.silu(e))
        return e[:, None], shared.unflatten(-1, (6, -1))

    def stage(
        self, number: int, h: Tensor, vectors: Tensor, text: Tensor, bias: Tensor | None
    ) -> Tensor:
        """One block."""
        return self.transformer_blocks[number](h, vectors, text, bias)

    def layers(self, h: Tensor, *condition: Tensor | None) -> Tensor:
        """All stages, with the fusions between them."""
        half, skips = len(self.transformer_blocks) // 2, []
        for i in range(len(self.transformer_blocks)):
            if self.config.skip and i >= half:
                both = self.skip_norms[i - half](torch.cat([h, skips.pop()], dim=-1))
                h = self.skip_linears[i - half](both)
            h = self.stage(i, h, *condition)
            if self.config.skip and i < half:
                skips.append(h)
        return h

    def head(self, h: Tensor, e: Tensor) -> Tensor:
        """[B,N,D] and [B,1,D] -> [B,C_out,H,W]."""
        shift, scale = (self.scale_shift_table + e).unbind(1)
        return unpatchify(self.proj_out(modulate(h, shift, scale)), self.config)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        text: Tensor,
        mask: Tensor | None = None,
        size: Tensor | None = None,
    ) -> Tensor:
        e, vectors = self.vectors(t, size)
        h = self.pos_embed(x) + self.places
        bias = None if mask is None else (UNSEEN * (1 - mask))[:, None, None]
        return self.head(self.layers(h, vectors, self.caption_projection(text), bias), e)


class TorchLatteT2V(TorchPixArt):
    """(x [B,C,F,H,W], t [B], text [B,L,E], mask [B,L]) -> [B,C_out,F,H,W]."""

    def __init__(self, config: LatteT2VConfig):
        super().__init__(config)
        blocks = (_Block(config, reads=False) for _ in range(config.depth))
        self.temporal_transformer_blocks = nn.ModuleList(blocks)
        times = _sincos(np.arange(config.num_frames), config.hidden_size)
        self.register_buffer("times", torch.from_numpy(times), persistent=False)

    def stage(
        self, number: int, h: Tensor, vectors: Tensor, text: Tensor, bias: Tensor | None
    ) -> Tensor:
        """[B F, N, D] through a spatial and a temporal block."""
        frames, tokens = len(h) // len(vectors), h.shape[1]
        of_frames = vectors.repeat_interleave(frames, dim=0)
        h = super().stage(number, h, of_frames, text, bias)
        h = h.unflatten(0, (-1, frames)).transpose(1, 2).flatten(0, 1)  # [B N, F, D]
        if number == 0 and frames > 1:
            h = h + self.times[:frames]
        of_places = vectors.repeat_interleave(tokens, dim=0)
        h = self.temporal_transformer_blocks[number](h, of_places)
        return h.unflatten(0, (-1, tokens)).transpose(1, 2).flatten(0, 1)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        text: Tensor,
        mask: Tensor | None = None,
        size: Tensor | None = None,
    ) -> Tensor:
        frames = x.shape[2]
        e, vectors = self.vectors(t, size)
        h = self.pos_embed(x.transpose(1, 2).flatten(0, 1)) + self.places
        text = self.caption_projection(text).repeat_interleave(frames, dim=0)
        bias = None
        if mask is not None:
            bias = (UNSEEN * (1 - mask)).repeat_interleave(frames, dim=0)[:, None, None]
        h = self.layers(h, vectors, text, bias)
        pictures = self.head(h, e.repeat_interleave(frames, dim=0))
        return pictures.unflatten(0, (-1, frames)).transpose(1, 2)


def _embedder(width: int) -> TwoLinears:
    return TwoLinears(2 * NUM_FREQUENCIES, width, width)


def _sincos(places: np.ndarray, width: int) -> np.ndarray:
    """Sines, then cosines of each place, float32 [n, width]."""
    frequencies = MAX_PERIOD ** (-np.arange(width // 2) / (width / 2))
    angles = places.astype(np.float64)[:, None] * frequencies
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def _places(config: TextConfig) -> np.ndarray:
    """Of all tokens in row-major order: the column in the first half, the row in the second."""
    rows, columns = (
        np.arange(side // config.patch_size) * config.extent / (side // config.patch_size)
        for side in config.grid
    )
    across, down = np.meshgrid(columns, rows)
    half = config.hidden_size // 2
    return np.concatenate([_sincos(across.ravel(), half), _sincos(down.ravel(), half)], axis=1)


def pixart_twin(config: PixArtConfig, params: Mapping) -> nn.Module:
    """The twin of one of our models with the same weights."""
    return loaded(TorchPixArt, config, rules_pixart.rules(vars(config)), params)


def latte_t2v_twin(config: LatteT2VConfig, params: Mapping) -> nn.Module:
    """The twin of one of our models with the same weights."""
    return loaded(TorchLatteT2V, config, rules_latte_t2v.rules(vars(config)), params)
