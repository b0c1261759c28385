"""The encoder of BERT (Devlin et al., arXiv 1810.04805), which HunYuan-DiT calls its CLIP.

Norms stand behind the sums, not before the sub-layers. What goes from block to block is float32,
whatever the compute type.
"""

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from skipdit_jax.encoders.text_config import TextEncoderConfig
from skipdit_jax.layers.attention import IMPLEMENTATIONS, Attention, hiding
from skipdit_jax.layers.embedders import LabelEmbedder
from skipdit_jax.layers.mlp import Mlp
from skipdit_jax.layers.modulation import gated
from skipdit_jax.layers.norms import LayerNorm

EPSILON = 1e-12  # of all norms (docs/notes.md, Text encoders)

gelu_exact = functools.partial(jax.nn.gelu, approximate=False)


@dataclass(frozen=True, kw_only=True)
class BertConfig(TextEncoderConfig):
    """Everything that fixes the encoder's function, apart from its weights; HunYuan-DiT's.

    Attributes:
      max_positions: pieces of the longest text.
      num_types: kinds of text in a pair; all of ours are of the first.
      norm_epsilon: of all norms.
      attention: "auto", "xla", "cudnn" or "fold".
    """

    FAMILY: ClassVar[str] = "BERT"
    POSITIVE: ClassVar[tuple[str, ...]] = (
        *TextEncoderConfig.POSITIVE,
        "max_positions",
        "num_types",
    )

    vocab_size: int = 47020
    hidden_size: int = 1024
    depth: int = 24
    num_heads: int = 16
    mlp_width: int = 4096
    max_positions: int = 512
    num_types: int = 2
    norm_epsilon: float = EPSILON
    attention: str = "auto"

    def checks(self) -> list[tuple[bool, str]]:
        """(what must hold, what to say otherwise)."""
        width, heads = self.hidden_size, max(self.num_heads, 1)
        return [
            *super().checks(),
            (width % heads == 0, f"hidden_size {width} is not divisible by num_heads {heads}"),
            (
                self.attention in IMPLEMENTATIONS,
                f"attention is {self.attention!r}, wanted one of {IMPLEMENTATIONS}",
            ),
        ]


class BertBlock(nn.Module):
    """Attention, then the MLP; a norm follows each sum."""

    config: BertConfig

    def setup(self):
        """Makes the parts, named as their parameters."""
        config, types = self.config, self.config.types
        norm = types["param_dtype"], config.norm_epsilon
        self.attn = Attention(config.hidden_size, config.num_heads, config.attention, **types)
        self.attn_norm, self.mlp_norm = LayerNorm(*norm), LayerNorm(*norm)
        self.mlp = Mlp(config.mlp_width, **types, activation=gelu_exact)

    def __call__(
        self, h: Float[Array, "B N D"], bias: Float[Array, "B N"] | None
    ) -> Float[Array, "B N D"]:
        """[B,N,D] -> [B,N,D], float32."""
        h = self.attn_norm(gated(h, None, self.attn(h, bias=bias)))
        return self.mlp_norm(gated(h, None, self.mlp(h)))


class BertEncoder(nn.Module):
    """Numbers of pieces to hidden states, as `contracts.Network` wants it."""

    config: BertConfig

    def example_inputs(self, rows: int = 1) -> tuple[Any, ...]:
        """Shape and type of so many texts of one piece, for tracing."""
        return (jax.ShapeDtypeStruct((rows, 1), jnp.int32),)

    def setup(self):
        """Makes the parts, named as their parameters."""
        config, stored = self.config, self.config.types["param_dtype"]
        width = config.hidden_size
        self.tokens = LabelEmbedder(config.vocab_size, width, stored)
        self.positions = LabelEmbedder(config.max_positions, width, stored)
        self.kinds = LabelEmbedder(config.num_types, width, stored)
        self.norm = LayerNorm(stored, config.norm_epsilon)
        self.blocks = [BertBlock(config) for _ in range(config.depth)]

    def __call__(
        self, ids: Int[Array, "B L"], mask: Shaped[Array, "B L"] | None = None
    ) -> Float[Array, "B L D"]:
        """Returns the last hidden states, float32.

        Args:
          ids: numbers of pieces.
          mask: 1 for those that are seen, 0 for padding; None: all are seen.

        Raises:
          ValueError: texts longer than `max_positions`.
        """
        length, most = ids.shape[1], self.config.max_positions
        if length > most:
            raise ValueError(f"BERT: found {length} pieces, wanted at most {most}")
        places = self.positions(jnp.arange(length)[None])
        h = self.norm(self.tokens(ids) + places + self.kinds(jnp.zeros((1, 1), ids.dtype)))
        bias = None if mask is None else hiding(mask)
        for block in self.blocks:
            h = block(h, bias)
        return h
