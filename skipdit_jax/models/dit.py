"""DiT (Peebles & Xie, arXiv 2212.09748) and Skip-DiT (arXiv 2411.17616): class to image."""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from skipdit_jax.layers.attention import IMPLEMENTATIONS, SelfAttention
from skipdit_jax.layers.embedders import (
    LabelEmbedder,
    TimestepEmbedder,
    patchify,
    unpatchify,
)
from skipdit_jax.layers.fuse import SkipFusion
from skipdit_jax.layers.linear import Linear
from skipdit_jax.layers.mlp import Mlp
from skipdit_jax.layers.modulation import gated, modulate, modulation_linear, modulation_vectors
from skipdit_jax.layers.positions import sincos_2d
from skipdit_jax.models.stack import REMATS, remat_block, run_stages
from skipdit_jax.typing import Costs, Skips

DTYPES = ("float32", "bfloat16")
SIZES = {  # (depth, width, heads), table 1 of arXiv 2212.09748
    "S": (12, 384, 6),
    "B": (12, 768, 12),
    "L": (24, 1024, 16),
    "XL": (28, 1152, 16),
}
PATCHES = (2, 4, 8)


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """Everything that fixes a DiT's function, apart from its weights.

    Attributes:
      input_size: side of the latent grid, or (height, width).
      patch_size: side of the square that becomes one token.
      in_channels: C.
      hidden_size: D.
      depth: U, number of blocks; even if `skip`.
      num_heads: attention heads.
      mlp_ratio: hidden width of the MLP over D.
      class_dropout_prob: probability of training without a label; above 0 adds the null row.
      num_classes: 0 makes the model unconditional.
      learn_sigma: the head also predicts C variance channels.
      skip: long skips between block u and block U-1-u.
      dtype: compute type, "float32" or "bfloat16". Norms, softmax and modulation stay float32.
      param_dtype: type of the stored weights.
      attention: "auto", "xla", "cudnn" or "fold".
      remat: what training keeps of each block for its backward pass, see `stack.remat_block`.
    """

    input_size: int | tuple[int, int] = 32
    patch_size: int = 2
    in_channels: int = 4
    hidden_size: int = 1152
    depth: int = 28
    num_heads: int = 16
    mlp_ratio: float = 4.0
    class_dropout_prob: float = 0.1
    num_classes: int = 1000
    learn_sigma: bool = True
    skip: bool = False
    dtype: str = "float32"
    param_dtype: str = "float32"
    attention: str = "auto"
    remat: str = "none"

    def __post_init__(self):
        """Raises ValueError, naming the field, for values that describe no model."""
        if isinstance(self.input_size, list):
            object.__setattr__(self, "input_size", tuple(self.input_size))
        positive = ("patch_size", "in_channels", "hidden_size", "depth", "num_heads")
        for name in positive:
            if getattr(self, name) < 1:
                raise ValueError(f"DiT: {name} is {getattr(self, name)}, wanted 1 or more")
        height, width = self.grid
        checks = (
            (min(height, width) > 0, f"input_size is {self.input_size}, wanted positive sizes"),
            (
                height % self.patch_size == 0 and width % self.patch_size == 0,
                f"input_size {height}x{width} is not divisible by patch_size {self.patch_size}",
            ),
            (
                self.hidden_size % self.num_heads == 0,
                f"hidden_size {self.hidden_size} is not divisible by num_heads {self.num_heads}",
            ),
            (self.hidden_size % 4 == 0, f"hidden_size {self.hidden_size} is no multiple of 4"),
            (not (self.skip and self.depth % 2), f"depth {self.depth} must be even with skips"),
            (self.num_classes >= 0, f"num_classes is {self.num_classes}, wanted 0 or more"),
            (
                0 <= self.class_dropout_prob < 1,
                f"class_dropout_prob is {self.class_dropout_prob}, wanted 0 <= p < 1",
            ),
            (self.dtype in DTYPES, f"dtype is {self.dtype!r}, wanted one of {DTYPES}"),
            (
                self.param_dtype in DTYPES,
                f"param_dtype is {self.param_dtype!r}, wanted one of {DTYPES}",
            ),
            (
                self.attention in IMPLEMENTATIONS,
                f"attention is {self.attention!r}, wanted one of {IMPLEMENTATIONS}",
            ),
            (self.remat in REMATS, f"remat is {self.remat!r}, wanted one of {tuple(REMATS)}"),
        )
        for holds, message in checks:
            if not holds:
                raise ValueError(f"DiT: {message}")

    @property
    def grid(self) -> tuple[int, int]:
        """(height, width) of the latents."""
        size = self.input_size
        return (size, size) if isinstance(size, int) else size

    @property
    def out_channels(self) -> int:
        """C, or 2C with learned variance."""
        return self.in_channels * (2 if self.learn_sigma else 1)

    @property
    def has_null_class(self) -> bool:
        """Whether the label table has the extra row that guidance needs."""
        return self.num_classes > 0 and self.class_dropout_prob > 0

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of one latent."""
        return (*self.grid, self.in_channels)


class DiTBlock(nn.Module):
    """Attention and MLP, each behind a modulated norm and a gate (adaLN-Zero)."""

    config: DiTConfig

    def setup(self):
        """Makes the parts, named as their parameters."""
        config = self.config
        types: dict[str, Any] = {
            "dtype": jnp.dtype(config.dtype),
            "param_dtype": jnp.dtype(config.param_dtype),
        }
        self.modulation = modulation_linear(6, config.hidden_size, **types)
        self.attn = SelfAttention(config.num_heads, config.attention, **types)
        self.mlp = Mlp(int(config.hidden_size * config.mlp_ratio), **types)

    def __call__(self, h: Float[Array, "B N D"], c: Float[Array, "B D"]) -> Float[Array, "B N D"]:
        """One stage: [B,N,D] -> [B,N,D]."""
        vectors = modulation_vectors(self.modulation, c, h.ndim)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = vectors  # each [B,1,D]
        h = gated(h, gate_a, self.attn(modulate(h, shift_a, scale_a)))
        return gated(h, gate_m, self.mlp(modulate(h, shift_m, scale_m)))


class FinalLayer(nn.Module):
    """A modulated norm and a linear to the pixels of each patch; zero at the start."""

    config: DiTConfig

    def setup(self):
        """Makes the parts, named as their parameters."""
        config = self.config
        param_dtype = jnp.dtype(config.param_dtype)
        self.modulation = modulation_linear(
            2, config.hidden_size, jnp.dtype(config.dtype), param_dtype
        )
        self.linear = Linear(
            config.patch_size**2 * config.out_channels,
            dtype=jnp.dtype(config.dtype),
            param_dtype=param_dtype,
            out_dtype=jnp.float32,
            kernel_init=nn.initializers.zeros,
        )

    def __call__(self, h: Float[Array, "B N D"], c: Float[Array, "B D"]) -> Array:
        """[B,N,D] -> float32 [B, N, p * p * C_out]."""
        shift, scale = modulation_vectors(self.modulation, c, h.ndim)
        return self.linear(modulate(h, shift, scale))


class DiT(nn.Module):
    """A row of U blocks, with K = U/2 long skips if the config asks for them."""

    config: DiTConfig

    @property
    def num_stages(self) -> int:
        """U: every block is a stage."""
        return self.config.depth

    @property
    def num_skips(self) -> int:
        """K."""
        return self.config.depth // 2 if self.config.skip else 0

    @property
    def costs(self) -> Costs:
        """FLOPs per network row, by formula: matrix products only."""
        config = self.config
        width = config.hidden_size
        tokens = config.grid[0] * config.grid[1] // config.patch_size**2
        attention = 8 * tokens * width**2 + 4 * tokens**2 * width
        mlp = 4 * tokens * width * int(width * config.mlp_ratio)
        return Costs(
            stage=attention + mlp + 12 * width**2,
            fuse=4 * tokens * width**2,
            num_stages=self.num_stages,
            num_skips=self.num_skips,
        )

    def setup(self):
        """Makes the parts, named as their parameters."""
        config = self.config
        width = config.hidden_size
        types: dict[str, Any] = {
            "dtype": jnp.dtype(config.dtype),
            "param_dtype": jnp.dtype(config.param_dtype),
        }
        self.x_embedder = Linear(width, **types)
        self.t_embedder = TimestepEmbedder(width, **types)
        if config.num_classes:
            rows = config.num_classes + config.has_null_class
            self.y_embedder = LabelEmbedder(rows, width, types["param_dtype"])
        block = remat_block(DiTBlock, config.remat)
        self.blocks = [block(config) for _ in range(config.depth)]
        self.skip_fusions = [SkipFusion(**types) for _ in range(self.num_skips)]
        self.final_layer = FinalLayer(config)

    def embed(
        self, x: Float[Array, "B H W C"], t: Float[Array, "B"], y: Int[Array, "B"] | None = None
    ) -> tuple[Float[Array, "B N D"], Float[Array, "B D"]]:
        """Tokens with positions, and the conditioning vector c = t_emb + y_emb (float32)."""
        h = self.x_embedder(patchify(x, self.config.patch_size))  # [B,N,D]
        h = h + self.positions().astype(h.dtype)
        c = self.t_embedder(t)  # [B,D]
        return h, c + self.y_embedder(y) if self.config.num_classes else c

    def positions(self) -> Float[Array, "1 N D"]:
        """The fixed table, or the rounded one that half-precision weights were saved with."""
        if self.has_variable("params", "pos_embed"):
            return jax.lax.stop_gradient(self.get_variable("params", "pos_embed"))
        config = self.config
        height, width = (side // config.patch_size for side in config.grid)
        return jnp.asarray(sincos_2d(height, width, config.hidden_size)[None])

    def run(
        self, h: Float[Array, "B N D"], c: Float[Array, "B D"], skips: Skips, lo: int, hi: int
    ) -> tuple[Float[Array, "B N D"], Skips]:
        """Blocks lo..hi-1; see `stack.run_stages`."""
        return run_stages(
            lambda u, h: self.blocks[u](h, c),
            lambda j, h, skip: self.skip_fusions[j](h, skip),
            *(h, skips, lo, hi, self.num_stages, self.num_skips),
        )

    def head(self, h: Float[Array, "B N D"], c: Float[Array, "B D"]) -> Float[Array, "B H W C"]:
        """The prediction: noise and, with learned variance, C more channels; float32."""
        return unpatchify(self.final_layer(h, c), *self.config.grid, self.config.patch_size)

    def __call__(
        self, x: Float[Array, "B H W C"], t: Float[Array, "B"], y: Int[Array, "B"] | None = None
    ) -> Float[Array, "B H W C2"]:
        """One whole evaluation at model timesteps t; y are labels, num_classes meaning none."""
        h, c = self.embed(x, t, y)
        h, _ = self.run(h, c, {}, 0, self.num_stages)
        return self.head(h, c)
