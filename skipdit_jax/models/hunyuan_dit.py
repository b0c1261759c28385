"""HunYuan-DiT (Li et al., arXiv 2405.08748): text to image, with long skips as released."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from skipdit_jax.contracts import Costs, Seam
from skipdit_jax.layers.attention import Attention, KeysValues
from skipdit_jax.layers.embedders import (
    LabelEmbedder,
    TimestepEmbedder,
    patchify,
    timestep_features,
    unpatchify,
)
from skipdit_jax.layers.fuse import SkipFusion
from skipdit_jax.layers.linear import Linear
from skipdit_jax.layers.mlp import Mlp
from skipdit_jax.layers.modulation import gated, modulation_linear, modulation_vectors
from skipdit_jax.layers.norms import LayerNorm
from skipdit_jax.layers.pooling import AttentionPool
from skipdit_jax.layers.rotary import Tables, rotary_tables
from skipdit_jax.models.backbone import PLAIN, BackboneConfig, StagedBackbone, sublayer_flops
from skipdit_jax.models.class_backbone import FinalLayer
from skipdit_jax.models.digest import Digest, of_block, with_keys
from skipdit_jax.models.stack import remat_block
from skipdit_jax.models.text_conditions import TextCondition, TextConditioning
from skipdit_jax.models.two_texts import TwoTexts, TwoTextsConditioning
from skipdit_jax.published import HUNYUAN_MIDDLE_BLOCKS, MT5_TOKENS, VAE_FACTOR

Images = Float[Array, "B H W C"]
Tokens = Float[Array, "B N D"]

WIDER = 4  # hidden width of the small MLPs of conditions, over what enters or leaves them
POOL_HEADS = 8


@dataclass(frozen=True, kw_only=True)
class HunYuanDiTConfig(BackboneConfig):
    """Everything that fixes a HunYuan-DiT's function; a stage is one block.

    Attributes:
      text_width: of BERT.
      text_tokens: of BERT.
      t5_width: of mT5.
      t5_tokens: of mT5.
      pooled_width: of the vector that stands for the text of mT5.
      text_dropout_prob: probability of training without a text.
      size_condition: told the size of the picture, as v1.1 and before.
      style_condition: told a style, as these.
    """

    FAMILY: ClassVar[str] = "HunYuan-DiT"

    input_size: int | tuple[int, int] = 128
    hidden_size: int = 1408
    depth: int = 40
    mlp_ratio: float = 4.3637
    skip: bool = True
    text_width: int = 1024
    text_tokens: int = 77
    t5_width: int = 2048
    t5_tokens: int = MT5_TOKENS
    pooled_width: int = 1024
    text_dropout_prob: float = 0.1
    size_condition: bool = False
    style_condition: bool = False

    def _positive(self) -> list[tuple[bool, str]]:
        names = ("text_width", "text_tokens", "t5_width", "t5_tokens", "pooled_width")
        found = [(name, getattr(self, name)) for name in names]
        return [
            *super()._positive(),
            *((value >= 1, f"{name} is {value}, wanted 1 or more") for name, value in found),
        ]

    def _checks(self) -> list[tuple[bool, str]]:
        p, head = self.text_dropout_prob, self.hidden_size // max(self.num_heads, 1)
        return [
            *super()._checks(),
            (0 <= p < 1, f"text_dropout_prob is {p}, wanted 0 <= p < 1"),
            (head % 4 == 0, f"heads are {head} wide, wanted a multiple of 4 (rotary positions)"),
            (
                self.t5_width % POOL_HEADS == 0,
                f"t5_width is {self.t5_width}, wanted a multiple of {POOL_HEADS}",
            ),
        ]


class Vectors(NamedTuple):
    """What the blocks are given.

    Attributes:
      c: time, pooled text, size and style, [B,D] float32.
      text: of both encoders, see `Digest`; of a single block, its own.
      places: rotary tables of the grid.
    """

    c: Float[Array, "B D"]
    text: Any
    places: Tables


class HunYuanBlock(nn.Module):
    """Attention, cross-attention and MLP behind affine norms; time only shifts the first."""

    config: HunYuanDiTConfig

    def setup(self):
        """Makes the parts, named as their parameters."""
        config, types = self.config, self.config.types
        kind = config.hidden_size, config.num_heads, config.attention
        self.modulation = modulation_linear(1, config.hidden_size, **types)
        self.norm, self.cross_norm, self.mlp_norm = (
            LayerNorm(types["param_dtype"]) for _ in range(3)
        )
        self.attn = Attention(*kind, **types, qk_norm=True)
        self.cross_attn = Attention(*kind, **types, qk_norm=True)
        self.mlp = Mlp(int(config.hidden_size * config.mlp_ratio), **types)

    def __call__(self, h: Tokens, c: Vectors, seam: Seam = PLAIN) -> Tokens:
        """[B,N,D] -> [B,N,D]."""
        (shift,) = modulation_vectors(self.modulation, c.c, h)

        def attend(x: Tokens) -> Tokens:
            return self.attn(x, places=c.places)

        def worth(x: Tokens, kind: str) -> Float[Array, "B N"]:
            return self.attn.worth(x, kind, c.places)

        def read(x: Tokens) -> Tokens:
            return self.cross_attn(x, c.text, places=c.places)

        h = gated(h, *seam("attn", self.norm(h) + shift, None, attend, worth))
        h = gated(h, *seam("xattn", self.cross_norm(h), None, read))
        return gated(h, *seam("mlp", self.mlp_norm(h), None, self.mlp))

    def keys_values(self, text: Float[Array, "B L E"]) -> KeysValues:
        """What a call makes of the text alone; it takes the result in the text's place."""
        return self.cross_attn.keys_values(text)


class HunYuanDiT(StagedBackbone):
    """A row of U blocks; with skips the two in the middle take part in none, K = U/2 - 1."""

    config: HunYuanDiTConfig

    @property
    def num_skips(self) -> int:
        """K."""
        return max((self.num_stages - HUNYUAN_MIDDLE_BLOCKS) // 2, 0) if self.config.skip else 0

    @property
    def conditioning(self) -> TwoTextsConditioning:
        """Embeddings of both encoders, with size and style where the model knows them."""
        config = self.config
        height, width = config.grid
        drop = config.text_dropout_prob
        return TwoTextsConditioning(
            bert=TextConditioning(config.text_tokens, config.text_width, drop),
            t5=TextConditioning(config.t5_tokens, config.t5_width, drop),
            pixels=(VAE_FACTOR * height, VAE_FACTOR * width) if config.size_condition else None,
            styled=config.style_condition,
        )

    @property
    def costs(self) -> Costs:
        """FLOPs per network row, by formula: matrix products only."""
        config, width = self.config, self.config.hidden_size
        tokens, texts = config.tokens, config.text_tokens + config.t5_tokens
        attention, mlp = sublayer_flops(config, tokens, tokens)
        cross = 4 * tokens * width**2 + 4 * tokens * texts * width
        cross += 4 * texts * config.text_width * width
        return Costs(
            stage=attention + cross + mlp + 2 * width**2,
            fuse=4 * tokens * width**2,
            num_stages=self.num_stages,
            num_skips=self.num_skips,
            sublayers=(("attn", attention), ("xattn", cross), ("mlp", mlp)),
        )

    def setup(self):
        """Makes the parts, named as their parameters."""
        config, width = self.config, self.config.hidden_size
        types: dict[str, Any] = config.types
        self.x_embedder = Linear(width, **types)
        self.t_embedder = TimestepEmbedder(width, **types)
        self.t5_projection = Mlp(
            WIDER * config.t5_width, **types, width=config.text_width, activation=jax.nn.silu
        )
        # Its heads are too wide for cuDNN's kernel (256 as published), and its query is one.
        pooling = "auto" if config.attention == "cudnn" else config.attention
        self.pooler = AttentionPool(config.pooled_width, POOL_HEADS, pooling, **types)
        if config.style_condition:
            self.style_embedder = LabelEmbedder(1, width, types["param_dtype"])
        self.extra_embedder = Mlp(WIDER * width, **types, width=width, activation=jax.nn.silu)
        block = remat_block(HunYuanBlock, config.remat)
        self.blocks = [block(config) for _ in range(self.num_stages)]
        self.skip_fusions = [SkipFusion(**types) for _ in range(self.num_skips)]
        self.final_layer = FinalLayer(config)
        normal = nn.initializers.normal(config.text_width**-0.5)
        shape = (config.text_tokens + config.t5_tokens, config.text_width)
        self.padding = self.param("text_padding", normal, shape, types["param_dtype"])

    def embed(
        self, x: Images, t: Float[Array, "B"], condition: TwoTexts | Digest
    ) -> tuple[Tokens, Vectors]:
        """Tokens without positions, and what the blocks are given."""
        config = self.config
        rows, columns = (side // config.patch_size for side in config.grid)
        cos, sin = rotary_tables(rows, columns, config.hidden_size // config.num_heads)
        h = self.x_embedder(patchify(x, config.patch_size))
        made = condition if isinstance(condition, Digest) else self.read(condition)
        c = self.t_embedder(t) + made.vector
        return h, Vectors(c, made.text, (jnp.asarray(cos), jnp.asarray(sin)))

    def read(self, condition: TwoTexts) -> Digest:
        """The texts as all blocks share them, and what joins the vector of time."""
        return Digest(self.text(condition), vector=self.extra(condition))

    def digest(self, condition: TwoTexts) -> Digest:
        """All that depends on the condition alone; see `contracts.StagedModel`."""
        return with_keys(self.read(condition), self.blocks)

    def stage(self, u: int, h: Tokens, c: Vectors, seam: Seam = PLAIN) -> Tokens:
        """Block u."""
        return self.blocks[u](h, of_block(c, u), seam)

    def text(self, condition: TwoTexts) -> Float[Array, "B L E"]:
        """Both texts in a row, trained padding in place of masked tokens; all are attended to."""
        t5 = self.t5_projection(condition.t5.text)
        text = jnp.concatenate([condition.bert.text.astype(t5.dtype), t5], axis=1)
        seen = jnp.concatenate([_seen(condition.bert), _seen(condition.t5)], axis=1)
        padding = jnp.asarray(self.padding).astype(text.dtype)[None]
        return jnp.where(seen[..., None], text, padding)

    def extra(self, condition: TwoTexts) -> Float[Array, "B D"]:
        """The vector of everything but time, in float32."""
        parts = [self.pooler(condition.t5.text).astype(jnp.float32)]
        if self.config.size_condition:
            waves = timestep_features(condition.size.reshape(-1))
            parts.append(waves.reshape(len(condition), -1))
        if self.config.style_condition:
            parts.append(self.style_embedder(condition.style))
        return self.extra_embedder(jnp.concatenate(parts, axis=1)).astype(jnp.float32)

    def head(self, h: Tokens, c: Vectors) -> Images:
        """The prediction: v and, with learned variance, C more channels; float32."""
        height, width = self.config.grid
        return unpatchify(self.final_layer(h, c.c), height, width, self.config.patch_size)

    def __call__(
        self, x: Images, t: Float[Array, "B"], condition: TwoTexts
    ) -> Float[Array, "B H W C2"]:
        """One whole evaluation at model timesteps t."""
        h, c = self.embed(x, t, condition)
        h, _ = self.run(h, c, {}, 0, self.num_stages)
        return self.head(h, c)


def _seen(text: TextCondition) -> Array:
    """Which tokens of a text are no padding, bool [B,L]."""
    return jnp.ones(text.text.shape[:2], bool) if text.mask is None else text.mask != 0
