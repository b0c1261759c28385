"""Euler and Heun on straight paths: the ODE dx/dq = v(x, q) from q = 1, noise, to q = 0, data.

q is the share of noise, v = ε - x_0 what the network predicts (Lipman et al. 2210.02747, Liu et al.
2209.03003), h = q' - q < 0:

    (1)  Euler  x' = x + h v(x, q)
    (2)  Heun   x̂  = x + h v(x, q)
                x' = x + h/2 (v(x, q) + v(x̂, q')) = x̂ + h/2 (v(x̂, q') - v(x, q))

Written from x̂, Heun's second half is a weighted sum like any other step: a call of the loop is a
call of the network, and of Heun's S steps all but the last take two, 2S - 1 in all. The last, which
would ask the network about pictures without noise, is Euler's.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from skipdit_jax.diffusion.levels import Levels, shifted, straight
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.diffusion.spacing import read_words
from skipdit_jax.sampling.steppers.contract import Schedule
from skipdit_jax.sampling.steppers.linear import Solver, WeightedSum, Weights, float32

LOWEST = ("shifted", "first", "even")
"""Least share of noise that the network is asked about, before it is shifted: 1/T, shifted once
already (the schedulers of diffusers do so); 1/T; or 1/S, as far from the data as from the next."""


@dataclass(frozen=True, kw_only=True)
class Flow(Solver):
    """Shares of noise: evenly from 1 to the lowest, shifted, and then 0.

    Attributes:
      shift: s of the shift (4) of diffusion/levels.py, above 1 for large pictures; e^μ where a
        pipeline shifts by μ.
      lowest: of `LOWEST`.
      terminal: least share of noise after the shift, to which all are stretched; None as it is.

    Raises:
      ValueError: settings that mean nothing.
    """

    flows: ClassVar[bool] = True

    shift: float = 1.0
    lowest: str = "shifted"
    terminal: float | None = None

    def __post_init__(self) -> None:
        name = type(self).__name__
        if not 0 < self.shift < np.inf:
            raise ValueError(f"{name} shift: found {self.shift}, wanted a number above 0")
        if self.lowest not in LOWEST:
            raise ValueError(f"{name} lowest: found {self.lowest!r}, wanted {', '.join(LOWEST)}")
        if self.terminal is not None and not 0 < self.terminal < 1:
            raise ValueError(f"{name} terminal: found {self.terminal}, wanted between 0 and 1")

    def levels(self, diffusion: Diffusion) -> Levels:
        """Levels of S steps."""
        if read_words(diffusion.num_timesteps, diffusion.spacing):
            raise ValueError(f"spacing {diffusion.spacing!r}: of flows wanted a number of steps")
        steps = diffusion.num_steps
        noise = np.linspace(1.0, self._least(diffusion), steps)
        noise = shifted(noise, self.shift)
        if self.terminal is not None and steps > 1:
            noise = 1.0 - (1.0 - noise) * (1.0 - self.terminal) / (1.0 - noise[-1])
        return straight(noise, diffusion.num_timesteps)

    def _least(self, diffusion: Diffusion) -> float:
        if self.lowest == "even":
            return 1.0 / diffusion.num_steps
        first = np.asarray([1.0 / diffusion.num_timesteps])
        return float(shifted(first, self.shift)[0] if self.lowest == "shifted" else first[0])


@dataclass(frozen=True, kw_only=True)
class FlowEuler(Flow):
    """Euler's method (1)."""

    def schedule(self, diffusion: Diffusion) -> Schedule:
        """See `Scheduled.schedule`."""
        visited = self.levels(diffusion)
        return Schedule(visited.timesteps, _velocity((np.diff(visited.sigma),)))


@dataclass(frozen=True, kw_only=True)
class FlowHeun(Flow):
    """Heun's method (2): S steps are 2S - 1 calls of the network."""

    @property
    def weighted_sum(self) -> WeightedSum:
        """What its steps are."""
        return WeightedSum(past=1)

    def schedule(self, diffusion: Diffusion) -> Schedule:
        """See `Scheduled.schedule`."""
        visited = self.levels(diffusion)
        h = np.repeat(np.diff(visited.sigma), 2)[:-1]
        second = np.arange(len(h)) % 2 == 1
        timesteps = np.repeat(visited.timesteps, 2)[1:]
        earlier = np.where(second, -h / 2, 0.0)
        return Schedule(timesteps, _velocity((np.where(second, h / 2, h), earlier)))


def _velocity(pull: tuple[Float[np.ndarray, "S"], ...]) -> Weights:
    """Weights of a solver in x itself, whose predictions are the network's output."""
    one = np.ones_like(pull[0])
    return float32(Weights(0 * one, one, one, pull, 0 * one))
