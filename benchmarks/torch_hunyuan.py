"""HunYuan-DiT in eager PyTorch, float32; see `torch_twin`.

Written from the description of the published function (arXiv 2405.08748), with the names of
diffusers, whose last modulation has the scale first.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.torch_text import FeedForward, TwoLinears
from benchmarks.torch_twin import PatchEmbedding, Waves, loaded, modulate, unpatchify
from skipdit_jax.checkpoints import rules_hunyuan
from skipdit_jax.layers.embedders import NUM_FREQUENCIES
from skipdit_jax.layers.norms import EPSILON
from skipdit_jax.layers.positions import MAX_PERIOD
from skipdit_jax.layers.rotary import BASE
from skipdit_jax.models.hunyuan_dit import POOL_HEADS, WIDER, HunYuanDiTConfig
from skipdit_jax.models.two_texts import SIZE_NUMBERS
from skipdit_jax.published import HUNYUAN_MIDDLE_BLOCKS


def _heads(x: Tensor, count: int) -> Tensor:
    """[B,N,D] -> [B,h,N,d]."""
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Pairs of channels by their angles."""
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    return x * cos + torch.stack([-odd, even], dim=-1).flatten(-2) * sin


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, context: int):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width)
        self.to_k, self.to_v = (nn.Linear(context, width) for _ in range(2))
        self.norm_q, self.norm_k = (nn.LayerNorm(width // heads, eps=EPSILON) for _ in range(2))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(
        self, x: Tensor, places: tuple[Tensor, Tensor], text: Tensor | None = None
    ) -> Tensor:
        context = x if text is None else text
        q = _turned(self.norm_q(_heads(self.to_q(x), self.heads)), *places)
        k = self.norm_k(_heads(self.to_k(context), self.heads))
        if text is None:
            k = _turned(k, *places)
        v = _heads(self.to_v(context), self.heads)
        out = functional.scaled_dot_product_attention(q, k, v)
        return self.to_out[0](out.transpose(1, 2).flatten(2))


class _ShiftedNorm(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=EPSILON)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.norm(x) + self.linear(functional.silu(c))[:, None]


class _Block(nn.Module):
    def __init__(self, config: HunYuanDiTConfig, fuses: bool):
        super().__init__()
        width, heads = config.hidden_size, config.num_heads
        if fuses:
            self.skip_norm = nn.LayerNorm(2 * width, eps=EPSILON)
            self.skip_linear = nn.Linear(2 * width, width)
        self.norm1 = _ShiftedNorm(width)
        self.attn1 = _Attention(width, heads, width)
        self.norm2 = nn.LayerNorm(width, eps=EPSILON)
        self.attn2 = _Attention(width, heads, config.text_width)
        self.norm3 = nn.LayerNorm(width, eps=EPSILON)
        self.ff = FeedForward(width, int(width * config.mlp_ratio))

    def forward(
        self,
        x: Tensor,
        c: Tensor,
        text: Tensor,
        places: tuple[Tensor, Tensor],
        skip: Tensor | None,
    ) -> Tensor:
        if skip is not None:
            x = self.skip_linear(self.skip_norm(torch.cat([x, skip], dim=-1)))
        x = x + self.attn1(self.norm1(x, c), places)
        x = x + self.attn2(self.norm2(x), places, text)
        return x + self.ff(self.norm3(x))


class _Pooler(nn.Module):
    def __init__(self, tokens: int, width: int, out: int):
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.zeros(tokens + 1, width))
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.c_proj = nn.Linear(width, out)

    def forward(self, text: Tensor) -> Tensor:
        tokens = torch.cat([text.mean(1, keepdim=True), text], dim=1) + self.positional_embedding
        q, k, v = (
            _heads(linear(source), POOL_HEADS)
            for linear, source in (
                (self.q_proj, tokens[:, :1]),
                (self.k_proj, tokens),
                (self.v_proj, tokens),
            )
        )
        out = functional.scaled_dot_product_attention(q, k, v)
        return self.c_proj(out.transpose(1, 2).flatten(1))


class TorchHunYuanDiT(nn.Module):
    """(x [B,C,H,W], t [B], both texts and masks, size [B,6], style [B]) -> [B,C_out,H,W]."""

    def __init__(self, config: HunYuanDiTConfig):
        super().__init__()
        self.config = config
        width, texts = config.hidden_size, config.text_tokens + config.t5_tokens
        self.waves = Waves()
        self.pos_embed = PatchEmbedding(config)
        for name, table in zip(("cos", "sin"), _rotary(config), strict=True):
            self.register_buffer(name, torch.from_numpy(table), persistent=False)
        told = config.pooled_width + config.style_condition * width
        told += config.size_condition * SIZE_NUMBERS * 2 * NUM_FREQUENCIES
        parts = {
            "timestep_embedder": TwoLinears(2 * NUM_FREQUENCIES, width, width),
            "extra_embedder": TwoLinears(told, WIDER * width, width),
            "pooler": _Pooler(config.t5_tokens, config.t5_width, config.pooled_width),
        }
        if config.style_condition:
            parts["style_embedder"] = nn.Embedding(1, width)
        self.time_extra_emb = nn.ModuleDict(parts)
        self.text_embedder = TwoLinears(config.t5_width, WIDER * config.t5_width, config.text_width)
        self.text_embedding_padding = nn.Parameter(torch.zeros(texts, config.text_width))
        self.fusions = max((config.depth - HUNYUAN_MIDDLE_BLOCKS) // 2, 0) * config.skip
        self.blocks = nn.ModuleList(
            _Block(config, i >= config.depth - self.fusions) for i in range(config.depth)
        )
        self.norm_out = nn.ModuleDict({"linear": nn.Linear(width, 2 * width)})
        self.proj_out = nn.Linear(width, config.patch_size**2 * config.out_channels)

    def vector(
        self, t: Tensor, text_t5: Tensor, size: Tensor | None, style: Tensor | None
    ) -> Tensor:
        """Time and everything but the tokens of the texts, [B,D]."""
        parts = self.time_extra_emb
        extra = [parts["pooler"](text_t5)]
        if size is not None:
            extra.append(self.waves(size.flatten()).view(len(size), -1))
        if style is not None:
            extra.append(parts["style_embedder"](style))
        made = parts["extra_embedder"](torch.cat(extra, dim=1))
        return parts["timestep_embedder"](self.waves(t)) + made

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        text: Tensor,
        mask: Tensor,
        text_t5: Tensor,
        mask_t5: Tensor,
        size: Tensor | None = None,
        style: Tensor | None = None,
    ) -> Tensor:
        seen = torch.cat([mask, mask_t5], dim=1)[..., None] != 0
        both = torch.cat([text, self.text_embedder(text_t5)], dim=1)
        both = torch.where(seen, both, self.text_embedding_padding)
        c = self.vector(t, text_t5, size, style)
        h, skips = self.pos_embed(x), []
        for i, block in enumerate(self.blocks):
            fused = skips.pop() if i >= len(self.blocks) - self.fusions else None
            h = block(h, c, both, (self.cos, self.sin), fused)
            if i < self.fusions:
                skips.append(h)
        scale, shift = self.norm_out["linear"](functional.silu(c)).chunk(2, 1)
        return unpatchify(self.proj_out(modulate(h, shift, scale)), self.config)


def _rotary(config: HunYuanDiTConfig) -> tuple[np.ndarray, np.ndarray]:
    """(cos, sin) [N,d]: columns turn the first half of the channels, rows the second."""
    rows, columns = (side // config.patch_size for side in config.grid)
    head = config.hidden_size // config.num_heads
    frequencies = MAX_PERIOD ** (-np.arange(head // 4) / (head // 4))
    longer = max(rows, columns)

    def places(count: int) -> np.ndarray:
        """The longer side spans the base, the shorter is in its middle."""
        extent = BASE if count == longer else round(BASE / longer * count)
        start = round((BASE - extent) / 2)
        return np.linspace(start, start + extent, count, endpoint=False, dtype=np.float32)

    across, down = np.meshgrid(places(columns), places(rows))
    angles = np.concatenate(
        [np.outer(side.ravel().astype(np.float64), frequencies) for side in (across, down)], axis=1
    ).repeat(2, axis=1)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def hunyuan_twin(config: HunYuanDiTConfig, params: Mapping) -> nn.Module:
    """The twin of one of our models with the same weights."""
    return loaded(TorchHunYuanDiT, config, rules_hunyuan.rules(vars(config)), params)
