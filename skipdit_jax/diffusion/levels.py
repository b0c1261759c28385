"""Where a solver stands: how much data and how much noise, at each step and behind the last.

    (1)  x = α x_0 + σ ε                  α² = ᾱ, σ² = 1 - ᾱ;  on straight paths α = 1 - q, σ = q
    (2)  ρ = σ / α,   λ = -log ρ          half the log of the signal-to-noise ratio
    (3)  ρ_i = (ρ_max^(1/7) + i / (S - 1) (ρ_min^(1/7) - ρ_max^(1/7)))^7
    (4)  q' = s q / (1 + (s - 1) q)

(3) is eq. 5 of Karras et al. 2206.00364, (4) the shift of Esser et al. 2403.03206, eq. 23. All of
it is float64 on the host; rows go from the noisiest on, as a sampler does.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from skipdit_jax.diffusion.schedules import Diffusion

KARRAS_EXPONENT = 7.0
"""The 7 of (3) (2206.00364, table 1)."""
ENDS = ("data", "first")
"""Where the last step ends: at the data (ρ = 0), or at the noise of the first training timestep."""

Steps = Float[np.ndarray, "S"]
Ends = Float[np.ndarray, "ends"]  # S + 1
Training = Float[np.ndarray, "T"]


class Levels(NamedTuple):
    """Levels of S steps, from the noisiest on.

    Attributes:
      timesteps: what the network is given at each step.
      alpha: α before each step, and behind the last.
      sigma: σ likewise.
    """

    timesteps: Steps
    alpha: Ends
    sigma: Ends

    @property
    def half_log_snr(self) -> Ends:
        """λ; infinite without noise, minus infinite without data."""
        with np.errstate(divide="ignore"):
            return np.log(self.alpha) - np.log(self.sigma)


def training_ratio(diffusion: Diffusion) -> Training:
    """ρ of every training timestep, [T]."""
    alpha_bar = diffusion.training_alpha_bar
    with np.errstate(divide="ignore"):
        return np.sqrt((1.0 - alpha_bar) / alpha_bar)


def at_timesteps(diffusion: Diffusion, timesteps: Steps, end: str = "data") -> Levels:
    """Levels at timesteps, which may lie between two; ρ is then interpolated.

    Args:
      diffusion: the process.
      timesteps: descending.
      end: of `ENDS`.

    Raises:
      ValueError: timesteps beyond the last.
    """
    ratio = training_ratio(diffusion)
    if timesteps.max() > len(ratio) - 1:
        raise ValueError(
            f"spacing {diffusion.spacing!r}: found timestep {timesteps.max():g}, wanted at most "
            f"{len(ratio) - 1}"
        )
    below = timesteps.astype(np.int64)
    at = ratio[below]
    between = timesteps > below
    at[between] = np.interp(timesteps[between], np.arange(len(ratio)), ratio)
    return _of_ratios(timesteps, at, ratio, end)


def karras(
    diffusion: Diffusion, steps: int, ends: tuple[float, float] | None = None, end: str = "data"
) -> Levels:
    """Levels by (3), their timesteps interpolated in log ρ.

    Args:
      diffusion: the process.
      steps: S.
      ends: ρ_max and ρ_min; None is all that the process has.
      end: of `ENDS`.
    """
    ratio = training_ratio(diffusion)
    most, least = ends or (ratio[-1], ratio[0])
    roots = np.linspace(most ** (1 / KARRAS_EXPONENT), least ** (1 / KARRAS_EXPONENT), steps)
    at = roots**KARRAS_EXPONENT
    timesteps = np.interp(np.log(at), np.log(ratio), np.arange(len(ratio)))
    return _of_ratios(timesteps, at, ratio, end)


def straight(noise: Steps, num_timesteps: int) -> Levels:
    """Levels of shares q of noise on straight paths, from the noisiest on, down to the data."""
    sigma = np.append(noise, 0.0)
    return Levels(num_timesteps * noise, 1.0 - sigma, sigma)


def shifted(noise: Float[np.ndarray, "*S"], shift: float) -> Float[np.ndarray, "*S"]:
    """Shares of noise after (4)."""
    return shift * noise / (1.0 + (shift - 1.0) * noise)


def _of_ratios(timesteps: Steps, at: Steps, ratio: Training, end: str) -> Levels:
    angle = np.arctan(np.append(at, 0.0 if end == "data" else ratio[0]))
    return Levels(timesteps, np.cos(angle), np.sin(angle))
