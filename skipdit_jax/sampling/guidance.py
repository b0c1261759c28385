"""Classifier-free guidance (Ho & Salimans, arXiv 2207.12598).

One network batch [cond; uncond] on the same x gives e_c and e_u; the guided prediction is

    (1)  e = e_u + s (e_c - e_u)        on the guided channels, e_c on all others.

Rescaled (Lin et al., arXiv 2305.08891, eq. 15 and 16), with standard deviations over the guided
channels and all places of a sample, the mean squares divided by n - 1:

    (2)  e <- φ std(e_c) / std(e) e + (1 - φ) e
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from skipdit_jax.typing import Latents, Scalar, StepFlags

Timesteps = Int[np.ndarray, "S"] | Float[np.ndarray, "S"]


class Strength(NamedTuple):
    """Of one step.

    Attributes:
      scale: s.
      rescale: φ.
    """

    scale: Scalar
    rescale: Scalar


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How strongly the condition is followed, and where.

    Attributes:
      scale: s. At most 1 runs the condition alone, as a single batch: half the work. A traced one
        always runs both, and counts as 1 below it.
      channels: the first so many channels are guided. DiT publishes 3 of 4 (the default of
        models of 4 channels, where a scale alone is given); None guides all C.
      interval: (low, high) model timesteps between which s holds, both included; outside it s is 1
        (Kynkaanniemi et al., arXiv 2404.07724) and the condition runs alone. None: everywhere.
      rescale: φ, 0 (the default) to 1: how far contrast is brought back to that of the condition.
    """

    scale: float | int | Scalar = 1.0
    channels: int | None = None
    interval: tuple[float | int, float | int] | None = None
    rescale: float | int = 0.0

    def __post_init__(self):
        """Raises ValueError for settings that mean nothing."""
        if not self._traced and not (_is_number(self.scale) and 0 <= self.scale < np.inf):
            raise ValueError(f"guidance: scale is {self.scale}, wanted a number >= 0")
        if self.channels is not None and self.channels < 1:
            raise ValueError(f"guidance: channels is {self.channels}, wanted 1 or more")
        if not (_is_number(self.rescale) and 0 <= self.rescale <= 1):
            raise ValueError(f"guidance: rescale is {self.rescale}, wanted a number from 0 to 1")
        if self.interval is None:
            return
        if len(self.interval) != 2 or not all(map(_is_number, self.interval)):
            raise ValueError(f"guidance: interval is {self.interval}, wanted two timesteps")
        if self.interval[0] > self.interval[1]:
            raise ValueError(f"guidance: interval {self.interval} ends before it begins")

    @property
    def _traced(self) -> bool:
        return isinstance(self.scale, jax.core.Tracer)

    @property
    def doubles(self) -> bool:
        """Whether the network batch is [cond; uncond]."""
        return self._traced or bool(self.scale > 1)

    def inside(self, timesteps: Timesteps) -> StepFlags:
        """Where both halves are run."""
        low, high = self.interval or (-np.inf, np.inf)
        return (low <= timesteps) & (timesteps <= high)

    def rescales(self, steps: int) -> Float[np.ndarray, "S"] | None:
        """Phi of each of so many steps, float32; None where nothing is rescaled."""
        asked = self.doubles and self.rescale > 0
        return np.full(steps, self.rescale, np.float32) if asked else None

    def scales(self, timesteps: Timesteps) -> Float[Array | np.ndarray, "S"]:
        """S of each step, float32."""
        inside = self.inside(timesteps)
        if self._traced:
            scale = jnp.maximum(jnp.asarray(self.scale, jnp.float32), 1.0)
            return jnp.where(inside, scale, jnp.ones_like(scale))
        return np.where(inside, self.scale, 1.0).astype(np.float32)


def _is_number(value: Any) -> bool:
    """Whether it is one real number, in whatever type."""
    found = np.asarray(value)
    return found.shape == () and found.dtype.kind in "iuf" and not np.isnan(found)


def mix(
    doubled: Float[Array, "B2 *grid C2"], strength: Scalar | Strength, channels: int
) -> Float[Array, "B *grid C2"]:
    """Equation (1), and (2) if asked for, for the first `channels` of a doubled batch.

    The rest is the condition's.
    """
    scale = strength.scale if isinstance(strength, Strength) else strength
    cond, uncond = jnp.split(doubled, 2)
    guided = uncond[..., :channels] + scale * (cond - uncond)[..., :channels]
    if isinstance(strength, Strength):
        guided = _rescaled(guided, cond[..., :channels], strength.rescale)
    return jnp.concatenate([guided, cond[..., channels:]], axis=-1)


def _rescaled(guided: Latents, cond: Latents, share: Scalar) -> Latents:
    """Equation (2), the statistics in float32."""
    axes = tuple(range(1, cond.ndim))
    own, wanted = (
        jnp.std(x.astype(jnp.float32), axis=axes, ddof=1, keepdims=True) for x in (guided, cond)
    )
    contrast = wanted / jnp.where(own > 0, own, 1.0)  # an untrained network says 0 everywhere
    factor = share * contrast + (1 - share)
    return guided * factor.astype(guided.dtype)


def doubled(x: Latents) -> Float[Array, "B2 *grid C"]:
    """[x; x]: both halves of the network batch see the same input."""
    return jnp.concatenate([x, x])
