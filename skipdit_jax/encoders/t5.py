"""The encoder of T5 v1.1 and mT5 (Raffel et al., arXiv 1910.10683; Xue et al., arXiv 2010.11934).

Logits are not divided by sqrt(d), and places are told by a bias of the distance between two tokens,
which all blocks share. What goes from block to block is float32, whatever the compute type.
"""

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32, Shaped

from skipdit_jax.encoders.text_config import TextEncoderConfig
from skipdit_jax.layers.attention import fold_attention, hiding
from skipdit_jax.layers.embedders import LabelEmbedder
from skipdit_jax.layers.linear import Linear
from skipdit_jax.layers.mlp import gelu_tanh
from skipdit_jax.layers.norms import EPSILON, RmsNorm

Bias = Float[Array, "B M"]
Places = Float[Array, "h N M"]


@dataclass(frozen=True, kw_only=True)
class T5Config(TextEncoderConfig):
    """Everything that fixes the encoder's function, apart from its weights; T5 v1.1 XXL.

    Attributes:
      head_dim: width of a head; heads times it need not be `hidden_size`.
      num_buckets: of distances, half of them for keys behind the query.
      max_distance: from which on all distances are one.
      norm_epsilon: of all norms.
      wo_param_dtype: type that the last linear of each MLP is stored in; "" is `param_dtype`. The
        originals keep it in float32 beside half precision, for 2.0 GB more of XXL. It computes in
        float32 in any case.
    """

    FAMILY: ClassVar[str] = "T5"
    POSITIVE: ClassVar[tuple[str, ...]] = (
        *TextEncoderConfig.POSITIVE,
        "head_dim",
        "max_distance",
    )

    vocab_size: int = 32128
    hidden_size: int = 4096
    depth: int = 24
    num_heads: int = 64
    mlp_width: int = 10240
    head_dim: int = 64
    num_buckets: int = 32
    max_distance: int = 128
    norm_epsilon: float = EPSILON
    wo_param_dtype: str = ""

    def checks(self) -> list[tuple[bool, str]]:
        """(what must hold, what to say otherwise)."""
        buckets, stored = self.num_buckets, self.wo_param_dtype
        return [
            *super().checks(),
            (
                buckets >= 4 and buckets % 4 == 0,
                f"num_buckets is {buckets}, wanted a multiple of 4",
            ),
            (
                self.max_distance > buckets // 4,
                f"max_distance is {self.max_distance}, wanted more than {buckets // 4}",
            ),
            (
                stored in ("", *self.DTYPES),
                f"wo_param_dtype is {stored!r}, wanted {self.DTYPES} or none",
            ),
        ]


@functools.lru_cache(maxsize=8)
def distance_buckets(
    queries: int, keys: int, num_buckets: int = 32, max_distance: int = 128
) -> Int32[np.ndarray, "N M"]:
    """Which bucket the distance from each query to each key falls into (1910.10683, section 2.1).

    Half of the buckets are for keys behind the query. Of each half, one half are single distances,
    the rest grow with their logarithm up to the last, which takes all from `max_distance` on.
    """
    half = num_buckets // 2
    exact = half // 2
    ahead = np.arange(keys)[None, :] - np.arange(queries)[:, None]
    distance = np.abs(ahead)
    # In float32, as the published tables were trained with: the floor sees the last bit.
    far = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact))
    far = far / np.float32(np.log(max_distance / exact)) * np.float32(half - exact)
    spread = np.minimum(exact + far.astype(np.int64), half - 1)
    buckets = np.where(distance < exact, distance, spread) + half * (ahead > 0)
    return buckets.astype(np.int32)


class T5Attention(nn.Module):
    """Attention without biases and without a scale; the softmax is float32."""

    config: T5Config

    @nn.compact
    def __call__(
        self, x: Float[Array, "B N D"], places: Places, bias: Bias | None
    ) -> Float[Array, "B N D"]:
        """Returns the update, float32."""
        config, heads = self.config, (self.config.num_heads, self.config.head_dim)
        inner = config.num_heads * config.head_dim

        def projected(name: str, std: float) -> Array:
            normal = nn.initializers.normal(std)
            made = Linear(inner, **config.types, use_bias=False, kernel_init=normal, name=name)(x)
            return made.reshape(*x.shape[:-1], *heads)

        # The scale that logits lack is in the first weights of the queries.
        std = x.shape[-1] ** -0.5
        q, k, v = (
            projected("q", std * config.head_dim**-0.5),
            projected("k", std),
            projected("v", std),
        )
        out = fold_attention(q, k, v, bias=bias, places=places, scaled=False)
        return Linear(
            x.shape[-1],
            **config.types,
            out_dtype=jnp.float32,
            use_bias=False,
            kernel_init=nn.initializers.normal(inner**-0.5),
            name="o",
        )(out.reshape(*x.shape[:-1], inner))


class T5Mlp(nn.Module):
    """wo(gelu(wi_0 x) * wi_1 x) without biases (Shazeer, arXiv 2002.05202), wo in float32.

    The product of two accumulators can be beyond what half precision holds: the originals keep `wo`
    in float32 for it (docs/notes.md, Text encoders).
    """

    config: T5Config

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
        """Returns the update, float32."""
        config, width = self.config, x.shape[-1]
        into, out = (nn.initializers.normal(n**-0.5) for n in (width, config.mlp_width))
        options: dict[str, Any] = {"out_dtype": jnp.float32, "use_bias": False}
        wide = {**config.types, **options, "kernel_init": into}
        gate, value = (Linear(config.mlp_width, **wide, name=name)(x) for name in ("wi_0", "wi_1"))
        stored = config.wo_param_dtype or config.param_dtype
        wo = Linear(width, jnp.float32, jnp.dtype(stored), **options, kernel_init=out, name="wo")
        return wo(gelu_tanh(gate) * value)


class T5Block(nn.Module):
    """Attention, then the MLP, each behind a norm and added to what it saw."""

    config: T5Config

    def setup(self):
        """Makes the parts, named as their parameters."""
        config = self.config
        norm = config.types["param_dtype"], config.norm_epsilon
        self.attn_norm, self.mlp_norm = RmsNorm(*norm), RmsNorm(*norm)
        self.attn, self.mlp = T5Attention(config), T5Mlp(config)

    def __call__(
        self, h: Float[Array, "B N D"], places: Places, bias: Bias | None
    ) -> Float[Array, "B N D"]:
        """[B,N,D] -> [B,N,D], float32."""
        h = h + self.attn(self.attn_norm(h), places, bias)
        return h + self.mlp(self.mlp_norm(h))


class T5Encoder(nn.Module):
    """Numbers of pieces to hidden states, as `contracts.Network` wants it."""

    config: T5Config

    def example_inputs(self, rows: int = 1) -> tuple[Any, ...]:
        """Shape and type of so many texts of one piece, for tracing."""
        return (jax.ShapeDtypeStruct((rows, 1), jnp.int32),)

    def setup(self):
        """Makes the parts, named as their parameters."""
        config, stored = self.config, self.config.types["param_dtype"]
        self.tokens = LabelEmbedder(config.vocab_size, config.hidden_size, stored, std=1.0)
        table = config.num_buckets, config.num_heads
        normal = nn.initializers.normal(config.hidden_size**-0.5)
        self.relative_bias = self.param("relative_bias", normal, table, stored)
        self.blocks = [T5Block(config) for _ in range(config.depth)]
        self.norm = RmsNorm(stored, config.norm_epsilon)

    def places(self, length: int) -> Places:
        """What the logits of each head gain by the distance between two tokens, float32."""
        config = self.config
        buckets = distance_buckets(length, length, config.num_buckets, config.max_distance)
        return self.relative_bias.astype(jnp.float32)[buckets].transpose(2, 0, 1)

    def __call__(
        self, ids: Int[Array, "B L"], mask: Shaped[Array, "B L"] | None = None
    ) -> Float[Array, "B L D"]:
        """Returns the last hidden states, float32.

        Args:
          ids: numbers of pieces.
          mask: 1 for those that are seen, 0 for padding; None: all are seen.
        """
        h, places = self.tokens(ids), self.places(ids.shape[1])
        bias = None if mask is None else hiding(mask)
        for block in self.blocks:
            h = block(h, places, bias)
        return self.norm(h)
