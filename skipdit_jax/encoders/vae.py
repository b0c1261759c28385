"""The autoencoders that latent diffusion models work behind: pictures to latents and back.

`AutoencoderKL` (Rombach et al., arXiv 2112.10752) takes every picture or frame by itself.
`AutoencoderKLTemporalDecoder` (Blattmann et al., arXiv 2311.15127) encodes frames by themselves
and decodes clips. Pixels are in [-1, 1]; what is decoded may go beyond.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from skipdit_jax.config import hold
from skipdit_jax.encoders.autoencoder import Decoder, Encoder
from skipdit_jax.layers.convolution import Convolution
from skipdit_jax.published import LATENT_SCALE
from skipdit_jax.typing import PRNGKey

DTYPES = ("float32", "bfloat16")
LOGVAR_RANGE = (-30.0, 20.0)  # docs/notes.md, Autoencoders

Pixels = Float[Array, "*many H W C"]
Codes = Float[Array, "*many h w c"]


@dataclass(frozen=True, kw_only=True)
class AutoencoderKLConfig:
    """Everything that fixes an autoencoder's function, apart from its weights.

    Attributes:
      block_out_channels: width of each level, the finest first; each next one halves both sides.
      layers_per_block: blocks of a level of the encoder; the decoder has one more.
      in_channels: of pictures.
      out_channels: of decoded pictures.
      latent_channels: c.
      norm_num_groups: of all group norms.
      use_quant_conv: a 1x1 convolution follows the encoder; newer autoencoders have none.
      use_post_quant_conv: one precedes the decoder of pictures.
      scaling_factor: what latents are multiplied by; no weights tell it (see `published`).
      dtype: compute type, "float32" or "bfloat16". Norms, softmax and moments stay float32.
      param_dtype: type of the stored weights.
    """

    FAMILY: ClassVar[str] = "AutoencoderKL"  # what errors call it
    CLIPS: ClassVar[bool] = False  # decodes clips, not pictures
    LEAST_LAYERS: ClassVar[int] = 1

    block_out_channels: Sequence[int] = (128, 256, 512, 512)
    layers_per_block: int = 2
    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    norm_num_groups: int = 32
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    scaling_factor: float = LATENT_SCALE
    dtype: str = "float32"
    param_dtype: str = "float32"

    def __post_init__(self):
        """Raises ValueError, naming the field, for values that describe no autoencoder."""
        object.__setattr__(self, "block_out_channels", tuple(self.block_out_channels))
        hold(self.FAMILY, (*self._numbers(), *self._types()))

    def _numbers(self) -> list[tuple[bool, str]]:
        """(what must hold, what to say otherwise)."""
        least = dict.fromkeys(("in_channels", "out_channels", "latent_channels"), 1)
        least |= {"norm_num_groups": 1, "layers_per_block": self.LEAST_LAYERS}
        widths, groups = self.block_out_channels, max(self.norm_num_groups, 1)
        return [
            *(
                (
                    getattr(self, name) >= low,
                    f"{name} is {getattr(self, name)}, wanted {low} or more",
                )
                for name, low in least.items()
            ),
            (
                bool(widths) and all(width > 0 and width % groups == 0 for width in widths),
                f"block_out_channels is {widths}, wanted multiples of norm_num_groups {groups}",
            ),
            (self.scaling_factor > 0, f"scaling_factor is {self.scaling_factor}, wanted above 0"),
        ]

    def _types(self) -> list[tuple[bool, str]]:
        return [
            (getattr(self, name) in DTYPES, f"{name} is {getattr(self, name)!r}, wanted {DTYPES}")
            for name in ("dtype", "param_dtype")
        ]

    @property
    def factor(self) -> int:
        """Pixels per latent along each side."""
        return 2 ** (len(self.block_out_channels) - 1)

    @property
    def types(self) -> dict[str, Any]:
        """Compute and storage types, as layers take them."""
        return {"dtype": jnp.dtype(self.dtype), "param_dtype": jnp.dtype(self.param_dtype)}


@dataclass(frozen=True, kw_only=True)
class AutoencoderKLTemporalDecoderConfig(AutoencoderKLConfig):
    """Everything that fixes it, see `AutoencoderKLConfig`; published with 2 layers per block."""

    FAMILY: ClassVar[str] = "AutoencoderKLTemporalDecoder"
    CLIPS: ClassVar[bool] = True
    LEAST_LAYERS: ClassVar[int] = 2  # with one block in the middle, attention has no place

    use_post_quant_conv: bool = False


class Moments(NamedTuple):
    """The normal distribution that a picture is encoded to, before scaling.

    Attributes:
      mean: float32 [..., h, w, c].
      logvar: log of the variance, float32 [..., h, w, c], in `LOGVAR_RANGE`.
    """

    mean: Array
    logvar: Array

    def at(self, noise: Codes) -> Codes:
        """Mean + standard deviation * noise."""
        return self.mean + jnp.exp(0.5 * self.logvar) * noise


def split_moments(raw: Codes) -> Moments:
    """What the encoder puts out, [..., h, w, 2c], as mean and clipped log-variance."""
    mean, logvar = jnp.split(raw.astype(jnp.float32), 2, axis=-1)
    return Moments(mean, jnp.clip(logvar, *LOGVAR_RANGE))


def sample_moments(moments: Moments, key: PRNGKey) -> Codes:
    """Draws unscaled latents; multiply by `scaling_factor` for a diffusion model."""
    return moments.at(jax.random.normal(key, moments.mean.shape, jnp.float32))


class AutoencoderKL(nn.Module):
    """Encodes and decodes pictures [B,H,W,3] or, frame by frame, clips [B,F,H,W,3]."""

    config: Any

    def example_inputs(self, rows: int = 1) -> tuple[Any, ...]:
        """Shape and type of the smallest pixels of so many rows, for tracing."""
        config = self.config
        frames = (1,) if config.CLIPS else ()
        shape = (rows, *frames, config.factor, config.factor, config.in_channels)
        return (jax.ShapeDtypeStruct(shape, jnp.float32),)

    def setup(self):
        """Makes the parts, named as their parameters."""
        config = self.config
        self.encoder = Encoder(config)
        if config.use_quant_conv:
            self.quant_conv = Convolution(2 * config.latent_channels, (1, 1), **config.types)
        if config.use_post_quant_conv and not config.CLIPS:
            self.post_quant_conv = Convolution(config.latent_channels, (1, 1), **config.types)
        self.decoder = Decoder(config, config.CLIPS)

    def encode(self, pixels: Pixels) -> Moments:
        """Pictures or clips of any size; a rest that fills no latent falls away.

        Args:
          pixels: [..., H, W, in_channels] in [-1, 1].

        Raises:
          ValueError: other channels, or a side smaller than one latent.
        """
        self._check(pixels, "in_channels", self.config.factor)
        raw = self.encoder(pixels)
        return split_moments(self.quant_conv(raw) if self.config.use_quant_conv else raw)

    def decode(self, z: Codes) -> Pixels:
        """Latents of any size, divided by `scaling_factor`, to float32 pixels.

        Args:
          z: [..., h, w, latent_channels]; a temporal decoder takes clips [B,F,h,w,c] only.

        Raises:
          ValueError: other channels, or pictures for a temporal decoder.
        """
        self._check(z, "latent_channels", 1)
        if self.config.use_post_quant_conv and not self.config.CLIPS:
            z = self.post_quant_conv(z)
        return self.decoder(z).astype(jnp.float32)

    def __call__(self, pixels: Pixels) -> Float[Array, "*many H2 W2 C2"]:
        """The reconstruction from the means; every parameter takes part."""
        return self.decode(self.encode(pixels).mean)

    def _check(self, x: Array, channels: str, least: int) -> None:
        config, wanted = self.config, getattr(self.config, channels)
        decodes_clips = config.CLIPS and channels == "latent_channels"
        axes = "[B,F,h,w,c]" if decodes_clips else "[B,H,W,C] or [B,F,H,W,C]"
        if x.ndim not in ((5,) if decodes_clips else (4, 5)):
            raise ValueError(f"{config.FAMILY}: input has shape {x.shape}, wanted {axes}")
        if x.shape[-1] != wanted or min(x.shape[-3:-1]) < least:
            raise ValueError(
                f"{config.FAMILY}: input has shape {x.shape}, wanted {wanted} channels "
                f"({channels}) and sides of {least} or more"
            )


class AutoencoderKLTemporalDecoder(AutoencoderKL):
    """Encodes frame by frame; decodes clips, whose frames see each other."""
