"""What DiT and Latte share: a config's fields, the adaLN-Zero block, the parts of the module.

`BackboneConfig` and `StagedBackbone` are those of every family.
"""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from skipdit_jax.contracts import Conditioning, Seam
from skipdit_jax.layers.attention import IMPLEMENTATIONS, SelfAttention
from skipdit_jax.layers.embedders import LabelEmbedder, TimestepEmbedder
from skipdit_jax.layers.fuse import SkipFusion
from skipdit_jax.layers.linear import Linear
from skipdit_jax.layers.mlp import Mlp
from skipdit_jax.layers.modulation import (
    gated,
    modulate,
    modulation,
    modulation_linear,
    modulation_vectors,
)
from skipdit_jax.layers.positions import sincos_2d
from skipdit_jax.models.conditions import ClassConditioning
from skipdit_jax.models.stack import REMATS, remat_block
from skipdit_jax.typing import Hidden

DTYPES = ("float32", "bfloat16")

TOKENS, FRAMES = -2, -3
"""Axes of a hidden state [..., F, N, D] that attention can run along."""

SUBLAYERS = {TOKENS: ("attn", "mlp"), FRAMES: ("tattn", "tmlp")}
"""What the two halves of a block are called where they meet the seam."""

PLAIN = Seam()


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """Everything that fixes a backbone's function, apart from its weights.

    Attributes:
      input_size: side of the latent grid, or (height, width).
      patch_size: side of the square that becomes one token.
      in_channels: C.
      hidden_size: D.
      depth: number of blocks.
      num_heads: attention heads.
      mlp_ratio: hidden width of the MLP over D.
      learn_sigma: the head also predicts C variance channels.
      skip: long skips between stage u and stage U-1-u.
      dtype: compute type, "float32" or "bfloat16". Norms, softmax and modulation stay float32.
      param_dtype: type of the stored weights.
      attention: "auto", "xla", "cudnn" or "fold".
      remat: what training keeps of each block for its backward pass, see `stack.remat_block`.
    """

    FAMILY: ClassVar[str] = "backbone"  # what errors call it
    BLOCKS_PER_STAGE: ClassVar[int] = 1

    input_size: int | tuple[int, int] = 32
    patch_size: int = 2
    in_channels: int = 4
    hidden_size: int = 1152
    depth: int = 28
    num_heads: int = 16
    mlp_ratio: float = 4.0
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
        for holds, message in (*self._positive(), *self._checks()):
            if not holds:
                raise ValueError(f"{self.FAMILY}: {message}")

    def _positive(self) -> list[tuple[bool, str]]:
        names = ("patch_size", "in_channels", "hidden_size", "depth", "num_heads")
        return [
            (getattr(self, name) >= 1, f"{name} is {getattr(self, name)}, wanted 1 or more")
            for name in names
        ]

    def _checks(self) -> list[tuple[bool, str]]:
        """(what must hold, what to say otherwise)."""
        height, width = self.grid
        patch, multiple = max(self.patch_size, 1), self.BLOCKS_PER_STAGE * (1 + self.skip)
        return [
            (min(height, width) > 0, f"input_size is {self.input_size}, wanted positive sizes"),
            (
                height % patch == 0 and width % patch == 0,
                f"input_size {height}x{width} is not divisible by patch_size {patch}",
            ),
            (
                self.hidden_size % max(self.num_heads, 1) == 0,
                f"hidden_size {self.hidden_size} is not divisible by num_heads {self.num_heads}",
            ),
            (self.hidden_size % 4 == 0, f"hidden_size {self.hidden_size} is no multiple of 4"),
            (
                1 <= self.hidden_size * self.mlp_ratio < math.inf,
                f"mlp_ratio is {self.mlp_ratio}, wanted at least 1 / hidden_size",
            ),
            (
                self.depth % multiple == 0,
                f"depth {self.depth} is no multiple of {multiple}"
                + (", as skips need" if self.skip else ""),
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
        ]

    @property
    def grid(self) -> tuple[int, int]:
        """(height, width) of the latents."""
        size = self.input_size
        return (size, size) if isinstance(size, int) else size

    @property
    def tokens(self) -> int:
        """N."""
        return self.grid[0] * self.grid[1] // self.patch_size**2

    @property
    def out_channels(self) -> int:
        """C, or 2C with learned variance."""
        return self.in_channels * (2 if self.learn_sigma else 1)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(H, W, C) of one latent, (F, H, W, C) of one clip."""
        return (*self.grid, self.in_channels)

    @property
    def types(self) -> dict[str, Any]:
        """Compute and storage types, as layers take them."""
        return {"dtype": jnp.dtype(self.dtype), "param_dtype": jnp.dtype(self.param_dtype)}


@dataclass(frozen=True, kw_only=True)
class ClassConfig(BackboneConfig):
    """A config of a model of classes.

    Attributes:
      class_dropout_prob: probability of training without a label; above 0 adds the null row.
      num_classes: 0 makes the model unconditional.
    """

    class_dropout_prob: float = 0.1
    num_classes: int = 1000

    def _checks(self) -> list[tuple[bool, str]]:
        p = self.class_dropout_prob
        return [
            *super()._checks(),
            (self.num_classes >= 0, f"num_classes is {self.num_classes}, wanted 0 or more"),
            (0 <= p < 1, f"class_dropout_prob is {p}, wanted 0 <= p < 1"),
        ]


class DiTBlock(nn.Module):
    """Attention and MLP, each behind a modulated norm and a gate (adaLN-Zero).

    Attributes:
      config: sizes and types.
      axis: which axis of its input attention runs along, `TOKENS` or `FRAMES`.
    """

    config: BackboneConfig
    axis: int = TOKENS

    def setup(self):
        """Makes the parts, named as their parameters."""
        config = self.config
        self.modulation = modulation_linear(6, config.hidden_size, **config.types)
        self.attn = SelfAttention(config.num_heads, config.attention, self.axis, **config.types)
        self.mlp = Mlp(int(config.hidden_size * config.mlp_ratio), **config.types)

    def vectors(self, c: Float[Array, "B D"]) -> Float[Array, "B P"]:
        """What a call makes of c alone; it takes the result in place of c."""
        return modulation(self.modulation, c)

    def __call__(self, h: Hidden, c: Float[Array, "B *rows P"], seam: Seam = PLAIN) -> Hidden:
        """[B,N,D] -> [B,N,D], or [B,F,N,D] -> [B,F,N,D]; c is for each sample or each frame."""
        vectors = modulation_vectors(self.modulation, c, h)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = vectors  # each [B,1,D], [B,F or 1,1,D]
        attn, mlp = SUBLAYERS[self.axis]
        h = gated(h, *seam(attn, modulate(h, shift_a, scale_a), gate_a, self.attn))
        return gated(h, *seam(mlp, modulate(h, shift_m, scale_m), gate_m, self.mlp))


class FinalLayer(nn.Module):
    """A modulated norm and a linear to the pixels of each patch; zero at the start."""

    config: BackboneConfig

    def setup(self):
        """Makes the parts, named as their parameters."""
        config = self.config
        self.modulation = modulation_linear(2, config.hidden_size, **config.types)
        self.linear = Linear(
            config.patch_size**2 * config.out_channels,
            **config.types,
            out_dtype=jnp.float32,
            kernel_init=nn.initializers.zeros,
        )

    def vectors(self, c: Float[Array, "B D"]) -> Float[Array, "B P"]:
        """See `DiTBlock.vectors`."""
        return modulation(self.modulation, c)

    def __call__(self, h: Hidden, c: Float[Array, "B *rows P"]) -> Array:
        """[..., N, D] -> float32 [..., N, p * p * C_out]."""
        shift, scale = modulation_vectors(self.modulation, c, h)
        return self.linear(modulate(h, shift, scale))


class Prepared(NamedTuple):
    """Conditioning whose modulation vectors are made.

    Attributes:
      vectors: of each block, and of the final layer, float32 [B,P].
    """

    vectors: tuple[Float[Array, "B P"], ...]


def of_layer(c: Any, number: int) -> Any:
    """What modulates block `number`; -1 is the final layer."""
    return c.vectors[number] if isinstance(c, Prepared) else c


def sublayer_flops(config: BackboneConfig, rows: int, attended: int) -> tuple[int, int]:
    """FLOPs of a block's attention and MLP over so many tokens, each attending to so many."""
    width = config.hidden_size
    attention = 8 * rows * width**2 + 4 * rows * attended * width
    return attention, 4 * rows * width * int(width * config.mlp_ratio)


def modulation_flops(config: BackboneConfig) -> int:
    """FLOPs of a block's modulation linear, for one sample."""
    return 12 * config.hidden_size**2


class StagedBackbone(nn.Module):
    """What every `contracts.Backbone` of the library has.

    Attributes:
      config: everything that fixes its function.
      trained: what its weights say of sampling, see `contracts.LoadedBackbone`.
    """

    config: BackboneConfig
    trained: Any = field(default=None, compare=False, repr=False)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(H, W, C) of one latent, (F, H, W, C) of one clip."""
        return self.config.sample_shape

    @property
    def learns_variance(self) -> bool:
        """Whether the head gives C more channels, of the variance."""
        return self.config.learn_sigma

    @property
    def conditioning(self) -> Conditioning:
        """What it is conditioned on."""
        raise NotImplementedError

    def example_inputs(self, rows: int = 1) -> tuple[Any, ...]:
        """Shapes and types of (x, t, condition) of so many rows, for tracing."""
        x = jax.ShapeDtypeStruct((rows, *self.sample_shape), jnp.float32)
        return x, jax.ShapeDtypeStruct((rows,), jnp.float32), self.conditioning.examples(rows)

    @property
    def num_stages(self) -> int:
        """U."""
        return self.config.depth // self.config.BLOCKS_PER_STAGE

    @property
    def num_skips(self) -> int:
        """K."""
        return self.num_stages // 2 if self.config.skip else 0

    def fixed(self, name: str, table: Any) -> Float[Array, "1 n D"]:
        """A fixed table, or the rounded one that half-precision weights were saved with."""
        if self.has_variable("params", name):
            return jax.lax.stop_gradient(jnp.asarray(self.get_variable("params", name)))
        return jnp.asarray(table[None])


class ClassBackbone(StagedBackbone):
    """The parts of a class-conditional `contracts.Backbone`, named as their parameters."""

    config: ClassConfig

    _xavier_skips: ClassVar[bool] = False  # how skip linears start, see `SkipFusion`

    @property
    def conditioning(self) -> ClassConditioning:
        """Labels, or nothing if there are no classes."""
        return ClassConditioning(self.config.num_classes, self.config.class_dropout_prob)

    def setup(self):
        """Makes the parts."""
        config = self.config
        width, types = config.hidden_size, config.types
        self.x_embedder = Linear(width, **types)
        self.t_embedder = TimestepEmbedder(width, **types)
        if config.num_classes:
            rows = self.conditioning.rows
            self.y_embedder = LabelEmbedder(rows, width, types["param_dtype"])
        block = remat_block(DiTBlock, config.remat)
        self.blocks = [block(config, axis) for axis in self._axes()]
        fusions = range(self.num_skips)
        self.skip_fusions = [SkipFusion(**types, xavier=self._xavier_skips) for _ in fusions]
        self.final_layer = FinalLayer(config)

    def prepared(self, c: Float[Array, "B D"]) -> Prepared | None:
        """All that blocks and final layer make of c alone; see `contracts.StagedModel.prepare`."""
        weights = c.shape[-1] * jnp.dtype(self.config.param_dtype).itemsize
        if len(c) * c.dtype.itemsize > weights:  # for each row of P vectors
            return None
        return Prepared(tuple(layer.vectors(c) for layer in (*self.blocks, self.final_layer)))

    def _axes(self) -> list[int]:
        """Which axis each block's attention runs along."""
        return [TOKENS] * self.config.depth

    def positions(self) -> Float[Array, "1 N D"]:
        """The fixed table of a grid of tokens."""
        height, width = (side // self.config.patch_size for side in self.config.grid)
        return self.fixed("pos_embed", sincos_2d(height, width, self.config.hidden_size))
