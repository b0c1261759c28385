"""From pictures, times and labels to vectors, and from tokens back to pictures."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from skipdit_jax.layers.linear import DType, Linear

EMBEDDING_STD = 0.02  # published initialisation of the label table and both timestep linears
NUM_FREQUENCIES = 128
MAX_PERIOD = 10_000.0
# Where the float32 exp of the original library is one unit in the last place above the rounded
# true value. t near 999 multiplies the difference, and sampling loops would drift by 1e-4.
ONE_ULP_ABOVE = (13, 44, 119)


def timestep_frequencies() -> Float[np.ndarray, "n"]:
    """f_j = exp(-ln(10000) j / 128) in float32, as the published models were trained with."""
    step = np.float32(-math.log(MAX_PERIOD)) / np.float32(NUM_FREQUENCIES)
    exponents = step * np.arange(NUM_FREQUENCIES, dtype=np.float32)
    frequencies = np.exp(exponents.astype(np.float64)).astype(np.float32)
    above = list(ONE_ULP_ABOVE)
    frequencies[above] = np.nextafter(frequencies[above], np.float32(np.inf))
    return frequencies


def timestep_features(t: Float[Array, "B"]) -> Float[Array, "B n"]:
    """[cos(t f), sin(t f)], float32 [B, 256]; t on the model's scale 0..999, may be fractional."""
    angles = t.astype(jnp.float32)[:, None] * timestep_frequencies()[None, :]
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class TimestepEmbedder(nn.Module):
    """256 frequencies -> Linear -> SiLU -> Linear."""

    width: int
    dtype: DType = jnp.float32
    param_dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, t: Float[Array, "B"]) -> Float[Array, "B D"]:
        """Returns float32 [B, D]."""
        normal = nn.initializers.normal(EMBEDDING_STD)
        options: dict[str, Any] = {"param_dtype": self.param_dtype, "kernel_init": normal}
        h = Linear(self.width, self.dtype, out_dtype=jnp.float32, name="fc1", **options)(
            timestep_features(t)
        )
        return Linear(self.width, self.dtype, out_dtype=jnp.float32, name="fc2", **options)(
            jax.nn.silu(h)
        )


class LabelEmbedder(nn.Module):
    """A table of vectors: of classes, with a last row for "no class", or of pieces of text.

    Attributes:
      rows: of the table.
      width: D.
      param_dtype: type of the stored table.
      std: of the numbers of a new one.
    """

    rows: int
    width: int
    param_dtype: DType = jnp.float32
    std: float = EMBEDDING_STD

    @nn.compact
    def __call__(self, y: Int[Array, "*rows"]) -> Float[Array, "*rows D"]:
        """Returns float32 [*rows, D]."""
        normal = nn.initializers.normal(self.std)
        table = self.param("embedding", normal, (self.rows, self.width), self.param_dtype)
        return jnp.take(table, y, axis=0, mode="clip").astype(jnp.float32)


def patchify(x: Float[Array, "B H W C"], patch: int) -> Float[Array, "B N P"]:
    """Cuts pictures into tokens of patch * patch * C features: row, column, channel."""
    batch, height, width, channels = x.shape
    grid = x.reshape(batch, height // patch, patch, width // patch, patch, channels)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, patch * patch * channels)


def unpatchify(
    tokens: Float[Array, "B N P"], height: int, width: int, patch: int
) -> Float[Array, "B H W C"]:
    """The inverse of `patchify` for pictures of height x width."""
    batch, _, features = tokens.shape
    grid = tokens.reshape(batch, height // patch, width // patch, patch, patch, -1)
    channels = features // patch**2
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height, width, channels)
