"""DiT and Skip-DiT in eager PyTorch, float32: the other side of the speed comparison.

Models of text are in `torch_text` and `torch_hunyuan`, of the parts that stand here.

Written from the description of the published functions (arXiv 2212.09748 and 2411.17616), with the
names of the published state dicts, so that an exported checkpoint loads strictly. It only computes
a forward pass; the benchmark first checks that it gives the same output as ours.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from skipdit_jax.checkpoints.rules import Rule, tensor_entries
from skipdit_jax.checkpoints.rules_dit import fixed_tables, rules
from skipdit_jax.layers.embedders import NUM_FREQUENCIES, timestep_frequencies
from skipdit_jax.layers.norms import EPSILON
from skipdit_jax.models.backbone import BackboneConfig
from skipdit_jax.models.dit import DiTConfig
from skipdit_jax.trees import flatten


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """A norm without weights, then [B,N,D] by vectors [B,D]."""
    normed = functional.layer_norm(x, x.shape[-1:], eps=EPSILON)
    return normed * (1 + scale[:, None]) + shift[:, None]


def _modulation(width: int, parts: int) -> nn.Sequential:
    return nn.Sequential(nn.SiLU(), nn.Linear(width, parts * width))


class PatchEmbedding(nn.Module):
    """[B,C,H,W] -> [B,N,D]."""

    def __init__(self, config: BackboneConfig):
        super().__init__()
        patch = config.patch_size
        self.proj = nn.Conv2d(config.in_channels, config.hidden_size, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class Waves(nn.Module):
    """Numbers [B] -> their cosines and sines [B,256]."""

    def __init__(self):
        super().__init__()
        frequencies = torch.from_numpy(timestep_frequencies())
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        angles = t[:, None] * self.frequencies
        return torch.cat([angles.cos(), angles.sin()], dim=-1)


class _TimestepEmbedding(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.waves = Waves()
        self.mlp = nn.Sequential(
            nn.Linear(2 * NUM_FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, t: Tensor) -> Tensor:
        return self.mlp(self.waves(t))


class _LabelEmbedding(nn.Module):
    def __init__(self, rows: int, width: int):
        super().__init__()
        self.embedding_table = nn.Embedding(rows, width)

    def forward(self, y: Tensor) -> Tensor:
        return self.embedding_table(y)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each [B,h,N,d]
        out = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).reshape(batch, tokens, width))


class _Mlp(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x), approximate="tanh"))


class _Block(nn.Module):
    def __init__(self, config: DiTConfig):
        super().__init__()
        width = config.hidden_size
        self.attn = _Attention(width, config.num_heads)
        self.mlp = _Mlp(width, int(width * config.mlp_ratio))
        self.adaLN_modulation = _modulation(width, 6)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.adaLN_modulation(c).chunk(6, 1)
        x = x + gate_a[:, None] * self.attn(modulate(x, shift_a, scale_a))
        return x + gate_m[:, None] * self.mlp(modulate(x, shift_m, scale_m))


class _FinalLayer(nn.Module):
    def __init__(self, config: DiTConfig):
        super().__init__()
        self.linear = nn.Linear(config.hidden_size, config.patch_size**2 * config.out_channels)
        self.adaLN_modulation = _modulation(config.hidden_size, 2)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.linear(modulate(x, *self.adaLN_modulation(c).chunk(2, 1)))


class SkipLinear(nn.Module):
    """2D -> D, below the name that files have it under."""

    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


class TorchDiT(nn.Module):
    """The model of a `DiTConfig`: (x [B,C,H,W], t [B], y [B]) -> [B,C_out,H,W]."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.config = config
        width = config.hidden_size
        height, length = (side // config.patch_size for side in config.grid)
        self.x_embedder = PatchEmbedding(config)
        self.t_embedder = _TimestepEmbedding(width)
        rows = config.num_classes + (config.class_dropout_prob > 0)  # the null has the last one
        self.y_embedder = _LabelEmbedding(rows, width)
        self.register_buffer("pos_embed", torch.zeros(1, height * length, width))
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.depth))
        self.final_layer = _FinalLayer(config)
        skips = config.depth // 2 if config.skip else 0
        if skips:
            self.skip_norms = nn.ModuleList(
                nn.LayerNorm(2 * width, eps=EPSILON) for _ in range(skips)
            )
            self.skip_linears = nn.ModuleList(SkipLinear(width) for _ in range(skips))

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        h = self.x_embedder(x) + self.pos_embed
        c = self.t_embedder(t) + self.y_embedder(y)
        half = len(self.blocks) // 2
        skips = []
        for i, block in enumerate(self.blocks):
            if self.config.skip and i >= half:
                both = self.skip_norms[i - half](torch.cat([h, skips.pop()], dim=-1))
                h = self.skip_linears[i - half](both)
            h = block(h, c)
            if self.config.skip and i < half:
                skips.append(h)
        return unpatchify(self.final_layer(h, c), self.config)


def unpatchify(tokens: Tensor, config: BackboneConfig) -> Tensor:
    """[B, N, p * p * C] -> [B,C,H,W]; features are ordered row, column, channel."""
    patch = config.patch_size
    height, width = (side // patch for side in config.grid)
    grid = tokens.view(len(tokens), height, width, patch, patch, -1)
    return grid.permute(0, 5, 1, 3, 2, 4).reshape(len(tokens), -1, height * patch, width * patch)


def torch_twin(config: DiTConfig, params: Mapping) -> nn.Module:
    """The twin of one of our models with the same weights."""
    fields = vars(config)
    return loaded(TorchDiT, config, rules(fields), params, fixed_tables(fields))


def loaded(
    make: Callable[..., nn.Module],
    config: BackboneConfig,
    table: Sequence[Rule],
    params: Mapping,
    computed: Mapping[str, np.ndarray] | None = None,
) -> nn.Module:
    """A twin with our weights, through the library's weight table.

    Args:
      make: the twin of a config.
      config: of both sides.
      table: the family's.
      params: of our model.
      computed: tensors of the twin that we compute and do not keep.
    """
    leaves = flatten(params)
    tensors = {name: np.array(value) for name, value in (computed or {}).items()}
    for name, entry in tensor_entries(table, params).items():
        # A contiguous copy: torch shall have its own layout, not a transposed view of ours.
        tensors[name] = np.array(
            entry.transform.to_torch(np.asarray(leaves[entry.path])), order="C"
        )
    with torch.device("meta"):
        twin = make(config)
    state = {name: torch.from_numpy(array) for name, array in tensors.items()}
    twin.load_state_dict(state, strict=True, assign=True)
    return twin.eval()
