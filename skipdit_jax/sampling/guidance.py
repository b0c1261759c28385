"""Classifier-free guidance (Ho & Salimans, arXiv 2207.12598).

One network batch [cond; uncond] on the same x gives e_c and e_u; the guided prediction is

    (1)  e = e_u + s (e_c - e_u)        on the guided channels, e_c on all others.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from skipdit_jax.typing import Latents, Scalar


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How strongly the condition is followed, and where.

    Attributes:
      scale: s. At most 1 runs the condition alone, as a single batch: half the work.
      channels: the first so many channels are guided. DiT publishes 3 of 4; None guides all C.
      interval: (low, high) model timesteps between which s holds, both included; outside it s is 1
        (Kynkaanniemi et al., arXiv 2404.07724). None: everywhere.
    """

    scale: float | int = 1.0
    channels: int | None = None
    interval: tuple[float | int, float | int] | None = None

    def __post_init__(self):
        """Raises ValueError for settings that mean nothing."""
        if not np.isfinite(self.scale) or self.scale < 0:
            raise ValueError(f"guidance: scale is {self.scale}, wanted a number >= 0")
        if self.channels is not None and self.channels < 1:
            raise ValueError(f"guidance: channels is {self.channels}, wanted 1 or more")
        if self.interval is not None and self.interval[0] > self.interval[1]:
            raise ValueError(f"guidance: interval {self.interval} ends before it begins")

    @property
    def doubles(self) -> bool:
        """Whether the network batch is [cond; uncond]."""
        return self.scale > 1

    def scales(self, timesteps: Int[np.ndarray, "S"]) -> Float[np.ndarray, "S"]:
        """S of each step, float32."""
        low, high = self.interval or (-np.inf, np.inf)
        inside = (low <= timesteps) & (timesteps <= high)
        return np.where(inside, self.scale, 1.0).astype(np.float32)


def mix(
    doubled: Float[Array, "B2 *grid C2"], scale: Scalar, channels: int
) -> Float[Array, "B *grid C2"]:
    """Equation (1) for the first `channels` of a doubled batch; the rest is the condition's."""
    cond, uncond = jnp.split(doubled, 2)
    guided = uncond[..., :channels] + scale * (cond - uncond)[..., :channels]
    return jnp.concatenate([guided, cond[..., channels:]], axis=-1)


def doubled(x: Latents) -> Float[Array, "B2 *grid C"]:
    """[x; x]: both halves of the network batch see the same input."""
    return jnp.concatenate([x, x])
