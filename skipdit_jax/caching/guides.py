"""The guide socket: which halves of [cond; uncond] a step runs, and what stands in for the other.

Kind 0 runs the condition alone, kind 1 both. The arrays that the inner sockets keep are [R,2B,...],
the condition's rows first, so that its half can be run alone.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from skipdit_jax.caching.rings import Part
from skipdit_jax.typing import Latents

KINDS = 2


@dataclass(frozen=True)
class Guide:
    """A guide that keeps nothing: a step that runs the condition alone is not guided.

    Attributes:
      kinds: how many kinds of step there are.
    """

    kinds: ClassVar[int] = KINDS

    def initialise(self, prediction: jax.ShapeDtypeStruct) -> Any:
        """What it keeps before the first step, for predictions [B,..,C_out] of one half."""
        return ()

    def both(self, cond: Array, uncond: Array, own: Any, row: Any) -> Any:
        """What it keeps behind a step that ran both halves."""
        return own

    def alone(self, cond: Array, own: Any, row: Any) -> tuple[Array | None, Any]:
        """What stands in for the other half's prediction (None: nothing), and what it keeps."""
        return None, own

    def part(self, batch: int) -> Part:
        """Which rows of what the inner sockets keep a step alone reads and writes."""
        return Part(batch)


class Difference(NamedTuple):
    """Prediction without condition less that with it, in two bands of spatial frequency.

    Attributes:
      low: [B,..,C_out].
      high: [B,..,C_out].
    """

    low: Array
    high: Array


class DifferenceRow(NamedTuple):
    """Numbers of `DifferenceGuide`.

    Attributes:
      low: float32 [S], what multiplies the low band at a step alone, for good.
      high: the same for the high band.
    """

    low: Float[np.ndarray, "S"]
    high: Float[np.ndarray, "S"]


@dataclass(frozen=True)
class DifferenceGuide(Guide):
    """FasterCache's (arXiv 2410.19355, section 3.3): the other half is this one and a difference.

    D = u - c is split by a disc around the centre of its spectrum when both halves run; at other
    steps u := c + D_low + D_high, both bands scaled by the numbers of the step.

    Attributes:
      radius: of the disc, over the shorter side of the grid.
      first_rows: the inner caches of a step alone are the second half's, and what it writes goes to
        both: the original keeps [uncond; cond] and takes the first rows of whatever it finds.
    """

    radius: float = 1 / 5
    first_rows: bool = False

    def initialise(self, prediction: jax.ShapeDtypeStruct) -> Difference:
        """Zeros."""
        zeros = jnp.zeros(prediction.shape, prediction.dtype)
        return Difference(zeros, zeros)

    def both(self, cond: Latents, uncond: Latents, own: Any, row: Any) -> Difference:
        """The bands of this step's difference."""
        difference = (uncond - cond).astype(jnp.float32)
        low = low_frequencies(difference, self.radius)
        return Difference(low.astype(cond.dtype), (difference - low).astype(cond.dtype))

    def alone(self, cond: Latents, own: Difference, row: DifferenceRow) -> tuple[Array, Difference]:
        """The sum of the condition's prediction and both bands."""
        own = Difference(own.low * row.low, own.high * row.high)
        return cond + own.low + own.high, own

    def part(self, batch: int) -> Part:
        """See `first_rows`."""
        return Part(batch, read=batch, written=(0, batch)) if self.first_rows else Part(batch)


def low_frequencies(x: Latents, radius: float) -> Latents:
    """The part of x [B,..,H,W,C] inside a disc of the shifted spectrum of each picture."""
    height, width = x.shape[-3:-1]
    reach = int(radius * min(height, width) + ROUNDING)
    rows = np.fft.ifftshift(np.arange(height) - height // 2)
    columns = np.fft.ifftshift(np.arange(width) - width // 2)
    inside = rows[:, None] ** 2 + columns[None] ** 2 <= reach**2
    mask = inside.reshape((1,) * (x.ndim - 3) + (height, width, 1)).astype(np.complex64)
    return jnp.fft.ifft2(jnp.fft.fft2(x, axes=(-3, -2)) * mask, axes=(-3, -2)).real


ROUNDING = 1e-9  # a fifth of 5 is 1
