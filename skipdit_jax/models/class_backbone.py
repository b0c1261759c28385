"""What DiT and Latte share: a config with classes, the adaLN-Zero block, the module."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from skipdit_jax.contracts import Seam
from skipdit_jax.layers.attention import SelfAttention
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
from skipdit_jax.models.backbone import PLAIN, SUBLAYERS, TOKENS, BackboneConfig, StagedBackbone
from skipdit_jax.models.conditions import ClassConditioning
from skipdit_jax.models.stack import remat_block
from skipdit_jax.typing import Hidden


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
        kind = config.hidden_size, config.num_heads, config.attention
        self.attn = SelfAttention(*kind, self.axis, **config.types)
        self.mlp = Mlp(int(config.hidden_size * config.mlp_ratio), **config.types)

    def vectors(self, c: Float[Array, "B D"]) -> Float[Array, "B P"]:
        """What a call makes of c alone; it takes the result in place of c."""
        return modulation(self.modulation, c)

    def __call__(self, h: Hidden, c: Float[Array, "B *rows P"], seam: Seam = PLAIN) -> Hidden:
        """[B,N,D] -> [B,N,D], or [B,F,N,D] -> [B,F,N,D]; c is for each sample or each frame."""
        vectors = modulation_vectors(self.modulation, c, h)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = vectors  # each [B,1,D], [B,F or 1,1,D]
        attn, mlp = SUBLAYERS[self.axis]
        attended = seam(attn, modulate(h, shift_a, scale_a), gate_a, self.attn, self.attn.worth)
        h = gated(h, *attended)
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


def modulation_flops(config: BackboneConfig) -> int:
    """FLOPs of a block's modulation linear, for one sample."""
    return 12 * config.hidden_size**2


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
        return self.fixed("pos_embed", sincos_2d(*self.token_grid, self.config.hidden_size))
