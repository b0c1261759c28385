"""What models of text share: a config's fields, the block with cross-attention, their parts.

The block is that of PixArt-alpha (Chen et al., arXiv 2310.00426, section 2.3); LatteT2V has it as
its spatial block, and without cross-attention as its temporal one.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from skipdit_jax.contracts import Seam
from skipdit_jax.layers.attention import Attention, KeysValues, hiding
from skipdit_jax.layers.embedders import TimestepEmbedder, patchify, unpatchify
from skipdit_jax.layers.fuse import SkipFusion
from skipdit_jax.layers.linear import Linear
from skipdit_jax.layers.mlp import Mlp
from skipdit_jax.layers.modulation import ModulationTable, gated, modulate
from skipdit_jax.layers.positions import sincos_2d
from skipdit_jax.models.backbone import PLAIN, SUBLAYERS, TOKENS, BackboneConfig, StagedBackbone
from skipdit_jax.models.digest import Digest, of_block, with_keys
from skipdit_jax.models.stack import remat_block
from skipdit_jax.models.text_conditions import TextCondition, TextConditioning
from skipdit_jax.published import VAE_FACTOR
from skipdit_jax.typing import Hidden

UNSEEN = (
    -10_000.0
)  # added to the logits of masked tokens: docs/notes.md, Parts of the models of text
UNSCALED = 64  # side of the largest latents whose positions count tokens; see `extent`
CROSS = "xattn"
SIZE_PARTS = 3  # of D: height, width and ratio of the picture


@dataclass(frozen=True, kw_only=True)
class TextConfig(BackboneConfig):
    """Everything that fixes the function of a model of text; a stage is a layer of it.

    Attributes:
      sample_size: side of the latents that the weights were made for: it fixes the positions, which
        other sizes stretch or shrink. None: `input_size`, of a square.
      interpolation_scale: what positions are divided by; None: `sample_size` / 64, at least 1.
      text_width: E of the text encoder.
      text_tokens: L of a prompt; calls take any number.
      text_dropout_prob: probability of training without a text.
      size_condition: told height, width and their ratio of the picture, in pixels.
    """

    input_size: int | tuple[int, int] = 64
    sample_size: int | None = None
    interpolation_scale: float | None = None
    text_width: int = 4096
    text_tokens: int = 120
    text_dropout_prob: float = 0.1
    size_condition: bool = False

    def _positive(self) -> list[tuple[bool, str]]:
        square = self.sample_size or self.grid[0] == self.grid[1]
        names = ("text_width", "text_tokens")
        found = [(name, getattr(self, name)) for name in names]
        return [
            *super()._positive(),
            *((value >= 1, f"{name} is {value}, wanted 1 or more") for name, value in found),
            (
                bool(square) and (self.sample_size or 1) >= 1,
                f"sample_size is {self.sample_size}, wanted the side that the weights were made "
                f"for, as input_size {self.input_size} is no square",
            ),
        ]

    def _checks(self) -> list[tuple[bool, str]]:
        p, scale = self.text_dropout_prob, self.interpolation_scale
        return [
            *super()._checks(),
            (0 <= p < 1, f"text_dropout_prob is {p}, wanted 0 <= p < 1"),
            (scale is None or scale > 0, f"interpolation_scale is {scale}, wanted more than 0"),
            (
                not self.size_condition or self.hidden_size % SIZE_PARTS == 0,
                f"hidden_size {self.hidden_size} is no multiple of {SIZE_PARTS}, as sizes need",
            ),
        ]

    @property
    def extent(self) -> float:
        """Up to where positions count along each side."""
        side = self.sample_size or self.grid[0]
        scale = self.interpolation_scale or max(side // UNSCALED, 1)
        return (side // self.patch_size) / scale


class TextVectors(NamedTuple):
    """What modulates the layers, and what they read.

    Attributes:
      blocks: shift, scale and gate of attention and of the MLP before each block's table, [B,6,D].
      head: of the final layer before its table, [B,1,D].
      text: see `Digest`; of a single block, its own.
      bias: see `Digest`.
    """

    blocks: Float[Array, "B 6 D"]
    head: Float[Array, "B 1 D"]
    text: Any
    bias: Float[Array, "B *rows L"] | None

    @property
    def images(self) -> int:
        """How many images with texts of their own stand behind the frames of a clip."""
        text = self.text
        return text.shape[1] - 1 if isinstance(text, jax.Array) and text.ndim == 4 else 0


class TextBlock(nn.Module):
    """Attention, cross-attention to the text, MLP; modulated by adaLN-single.

    Attributes:
      config: sizes and types.
      axis: which axis of its input attention runs along; `FRAMES` has no cross-attention.
    """

    config: TextConfig
    axis: int = TOKENS

    def setup(self):
        """Makes the parts, named as their parameters."""
        config, types = self.config, self.config.types
        kind = config.hidden_size, config.num_heads, config.attention
        self.modulation = ModulationTable(6, types["param_dtype"])
        self.attn = Attention(*kind, self.axis, **types)
        if self.axis == TOKENS:
            self.cross_attn = Attention(*kind, **types, out_init=nn.initializers.zeros)
        self.mlp = Mlp(int(config.hidden_size * config.mlp_ratio), **types)

    def __call__(self, h: Hidden, c: TextVectors, seam: Seam = PLAIN) -> Hidden:
        """[B,N,D] -> [B,N,D], or [B,F,N,D] -> [B,F,N,D]."""
        vectors = self.modulation(c.blocks, h.ndim)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = vectors  # each [B,1,D], [B,1,1,D]
        attn, mlp = SUBLAYERS[self.axis]
        attended = seam(attn, modulate(h, shift_a, scale_a), gate_a, self.attn, self.attn.worth)
        h = gated(h, *attended)
        if self.axis == TOKENS:
            h = gated(h, *seam(CROSS, h, None, lambda x: self.read(x, c)))
        return gated(h, *seam(mlp, modulate(h, shift_m, scale_m), gate_m, self.mlp))

    def keys_values(self, text: Float[Array, "B L D"]) -> KeysValues:
        """What a call makes of the text alone; it takes the result in the text's place."""
        return self.cross_attn.keys_values(text)

    def read(self, x: Hidden, c: TextVectors) -> Hidden:
        """What tokens take from the text: those of all frames from one, of each image its own."""
        if not c.images:
            rows = x.reshape(len(x), -1, x.shape[-1])  # frames in a row: their text is one
            return self.cross_attn(rows, c.text, c.bias).reshape(x.shape)
        frames = x.shape[1] - c.images
        clip, own = (None, None) if c.bias is None else (c.bias[:, 0], c.bias[:, 1:])
        video = self.read(x[:, :frames], c._replace(text=c.text[:, 0], bias=clip))
        images = self.cross_attn(x[:, frames:], c.text[:, 1:], own)
        return jnp.concatenate([video, images], axis=1)


class TextFinalLayer(nn.Module):
    """A modulated norm and a linear to the pixels of each patch; zero at the start."""

    config: TextConfig

    def setup(self):
        """Makes the parts, named as their parameters."""
        config = self.config
        self.modulation = ModulationTable(2, config.types["param_dtype"])
        self.linear = Linear(
            config.patch_size**2 * config.out_channels,
            **config.types,
            out_dtype=jnp.float32,
            kernel_init=nn.initializers.zeros,
        )

    def __call__(self, h: Hidden, c: Float[Array, "B 1 D"]) -> Array:
        """[..., N, D] -> float32 [..., N, p * p * C_out]."""
        shift, scale = self.modulation(c, h.ndim)
        return self.linear(modulate(h, shift, scale))


class TextBackbone(StagedBackbone):
    """The parts of a `contracts.Backbone` of text, named as their parameters."""

    config: TextConfig

    @property
    def conditioning(self) -> TextConditioning:
        """Embeddings of a prompt, with the size of the picture where the model knows sizes."""
        config = self.config
        height, width = config.grid
        return TextConditioning(
            tokens=config.text_tokens,
            width=config.text_width,
            dropout=config.text_dropout_prob,
            pixels=(VAE_FACTOR * height, VAE_FACTOR * width) if config.size_condition else None,
        )

    def setup(self):
        """Makes the parts."""
        config = self.config
        width, types = config.hidden_size, config.types
        self.x_embedder = Linear(width, **types)
        self.t_embedder = TimestepEmbedder(width, **types)
        if config.size_condition:
            self.size_embedder = TimestepEmbedder(width // SIZE_PARTS, **types)
            self.ratio_embedder = TimestepEmbedder(width // SIZE_PARTS, **types)
        self.modulation = Linear(6 * width, **types, out_dtype=jnp.float32)
        self.text_projection = Mlp(width, **types, width=width)
        block = remat_block(TextBlock, config.remat)
        self.blocks = [block(config) for _ in range(self.num_stages)]
        self.skip_fusions = [SkipFusion(**types) for _ in range(self.num_skips)]
        self.final_layer = TextFinalLayer(config)

    def tokens(self, pictures: Float[Array, "B H W C"]) -> Float[Array, "B N D"]:
        """Patches with their places."""
        patch, width = self.config.patch_size, self.config.hidden_size
        rows, columns = (side // patch for side in self.config.grid)
        table = jnp.asarray(sincos_2d(rows, columns, width, self.config.extent))
        h = self.x_embedder(patchify(pictures, patch))
        return h + table.astype(h.dtype)[None]

    def vectors(self, t: Float[Array, "B"], condition: TextCondition | Digest) -> TextVectors:
        """What modulates all layers (float32), and the text as they read it."""
        e = self.t_embedder(t)  # [B,D]
        made = condition if isinstance(condition, Digest) else self.read(condition)
        if made.vector is not None:
            e = e + made.vector
        blocks = self.modulation(jax.nn.silu(e)).reshape(len(e), -1, e.shape[-1])
        return TextVectors(blocks, e[:, None], made.text, made.bias)

    def read(self, condition: TextCondition) -> Digest:
        """The text as all blocks share it, and what sizes add to the vector of time."""
        seen = condition.mask
        bias = None if seen is None else hiding(seen, UNSEEN)
        vector = self.sizes(condition.size) if self.config.size_condition else None
        return Digest(self.text_projection(condition.text), bias, vector)

    def digest(self, condition: TextCondition) -> Digest:
        """All that depends on the condition alone; see `contracts.StagedModel`."""
        return with_keys(self.read(condition), self.blocks)

    def stage(self, u: int, h: Hidden, c: TextVectors, seam: Seam = PLAIN) -> Hidden:
        """Block u."""
        return self.blocks[u](h, of_block(c, u), seam)

    def sizes(self, size: Float[Array, "B 3"]) -> Float[Array, "B D"]:
        """Height, width and ratio, a third of D each."""
        sides = self.size_embedder(size[:, :2].reshape(-1)).reshape(len(size), -1)
        return jnp.concatenate([sides, self.ratio_embedder(size[:, 2])], axis=-1)

    def head(self, h: Hidden, c: TextVectors) -> Float[Array, "B *frames H W C"]:
        """The prediction: noise and, with learned variance, C more channels; float32."""
        patches = self.final_layer(h, c.head)
        height, width = self.config.grid
        flat = patches.reshape(-1, *patches.shape[-2:])
        pictures = unpatchify(flat, height, width, self.config.patch_size)
        return pictures.reshape(*patches.shape[:-2], *pictures.shape[1:])


def cross_flops(config: TextConfig, rows: int, texts: int = 1) -> int:
    """FLOPs of a block's cross-attention of so many tokens to one of so many texts each."""
    width, tokens = config.hidden_size, config.text_tokens
    return 4 * rows * width**2 + 4 * rows * tokens * width + 4 * texts * tokens * width**2
