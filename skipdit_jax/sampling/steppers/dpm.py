"""DPM-Solver and Euler: the probability-flow ODE, exact but for the network.

Letters of diffusion/levels.py, with ' behind the step; h = λ' - λ, h_1 and h_2 those of the steps
before, r = h_1 / h. Lu et al. 2211.01095, DPM-Solver++ in multistep form, m the predicted data:

    (1)  x' = σ'/σ x + g m,                      g = -α' (e^-h - 1)
    (2)  x' = σ'/σ x + g (m + D/2),              D = (m - m_1) / r           [algorithm 2]
    (3)  x' = σ'/σ x + g m + α' ((e^-h - 1)/h + 1) D                         ["heun"]
    (4)  x' = σ'/σ x + g m + α' ((e^-h - 1)/h + 1) D_1 - α' ((e^-h - 1 + h)/h² - 1/2) D_2
         D_2 = (D - D_-) / (r + r_1), D_1 = D + r D_2, D_- = (m_1 - m_2) / r_1, r_1 = h_2 / h
with noise on the way:
    (5)  x' = σ'/σ e^-h x + α' (1 - e^-2h)(m + D/2) + σ' sqrt(1 - e^-2h) ε
and with m the predicted noise, Lu et al. 2206.00927, DPM-Solver:
    (6)  x' = α'/α x - σ' (e^h - 1)(m + D/2)

e^-h = (σ'/σ)(α/α'), so that order 1 takes no logarithm and holds for σ' = 0, where x' = m. The
third order is as it was published; by its own expansion D_2 would count twice, and it converges a
little slower than the third power of h.

Euler's method in dx̄/dρ = ε (Karras et al. 2206.00364; x̄ = x/α) is (1) in other words: Euler
is order 1 at the levels of that sampler, with the noise that it starts from.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from skipdit_jax.diffusion import levels as at
from skipdit_jax.diffusion.levels import ENDS, Levels
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.diffusion.spacing import exact_timesteps, read_words, solver_timesteps
from skipdit_jax.sampling.steppers.contract import Schedule
from skipdit_jax.sampling.steppers.linear import (
    Solver,
    WeightedSum,
    Weights,
    data_of,
    float32,
    noise_of,
)

FORMS = ("data", "sde", "noise")
RULES = ("midpoint", "heun")
MAX_ORDER = 3
FEW_STEPS = 15
"""Below so many steps the last ones are of lower order (docs/notes.md, Samplers of diffusers)."""

Row = Float[np.ndarray, "S"]
Flags = Bool[np.ndarray, "S"]


@dataclass(frozen=True, kw_only=True)
class DpmSolver(Solver):
    """DPM-Solver++ (2) and its relatives, of order 1, 2 or 3.

    Attributes:
      order: 1, 2, or 3 of "data".
      form: what is held constant over a step: "data" (++), "sde" (the same with noise), "noise".
      rule: "midpoint" (2) or "heun" (3), of order 2.
      karras: levels by Karras et al. in place of those of the spacing.
      end: where the last step ends, of `levels.ENDS`: "noise" has no step to the data.
      lower_order_final: with fewer than 15 steps the last is of order 1, and of order 3 the one
        before it of order 2.
      euler_at_final: the last step is of order 1 in any case, as it is where it ends at the data.
      lowest: λ below which training timesteps are left out.
      clip: clip predicted data to [-1, 1].

    Raises:
      ValueError: settings that contradict each other.
    """

    order: int = 2
    form: str = "data"
    rule: str = "midpoint"
    karras: bool = False
    end: str = "data"
    lower_order_final: bool = True
    euler_at_final: bool = False
    lowest: float | None = None
    clip: bool = False

    def __post_init__(self) -> None:
        for name, wanted in (("form", FORMS), ("rule", RULES), ("end", ENDS)):
            if getattr(self, name) not in wanted:
                found = getattr(self, name)
                raise ValueError(f"DpmSolver {name}: found {found!r}, wanted {', '.join(wanted)}")
        most = MAX_ORDER if self.form == "data" else 2
        if not 1 <= self.order <= most:
            raise ValueError(f"DpmSolver order: found {self.order}, wanted 1 to {most}")
        if self.form == "noise" and (self.end == "data" or self.clip):
            raise ValueError("DpmSolver form 'noise': wanted end 'first' and no clip")
        if self.rule == "heun" and (self.form != "data" or self.order != 2):
            raise ValueError("DpmSolver rule 'heun': wanted form 'data' of order 2")

    @property
    def weighted_sum(self) -> WeightedSum:
        """What its steps are."""
        return WeightedSum(past=self.order - 1, stochastic=self.form == "sde", clip=self.clip)

    def schedule(self, diffusion: Diffusion) -> Schedule:
        """See `Scheduled.schedule`."""
        visited = self.levels(diffusion)
        predicted = noise_of if self.form == "noise" else data_of
        weights = predicted(diffusion, visited.alpha[:-1], visited.sigma[:-1])
        gains = _gains(visited, self.form)
        with np.errstate(divide="ignore", invalid="ignore"):  # of rows that are of lower order
            earlier = _earlier(visited, gains, self.rule, *self._orders(visited))
        pull = (gains.newest - sum(earlier), *earlier)[: self.order]
        rows = float32(Weights(*weights, gains.keep, pull, gains.noise))
        return Schedule(visited.timesteps, rows)

    def levels(self, diffusion: Diffusion) -> Levels:
        """Levels of S steps."""
        length, last = diffusion.num_timesteps, None
        if self.lowest is not None:
            last = int(np.sum(-np.log(at.training_ratio(diffusion)) >= self.lowest))
        timesteps = solver_timesteps(length, diffusion.spacing, last)[::-1]
        if not self.karras:
            return at.at_timesteps(diffusion, timesteps, self.end)
        spread = at.karras(diffusion, len(timesteps), end=self.end)
        return spread._replace(timesteps=np.round(spread.timesteps))

    def _orders(self, visited: Levels) -> tuple[Flags, Flags]:
        """Which of S steps are of order 1 and, of a solver of order 3, which of order 2."""
        steps = len(visited.timesteps)
        number, few = np.arange(steps), self.lower_order_final and steps < FEW_STEPS
        last = self.end == "data" or self.euler_at_final or few
        still = visited.sigma[1:] == visited.sigma[:-1]  # from timestep 0 to its own noise
        one = (number == 0) | (self.order == 1) | ((number == steps - 1) & last) | still
        two = (number == 1) | (self.order == 2) | ((number == steps - 2) & few)
        return one, two


@dataclass(frozen=True, kw_only=True)
class Euler(Solver):
    """Euler's method in ρ, at the levels of Karras et al.'s samplers as diffusers has them.

    Attributes:
      karras: levels by Karras et al. between the first and the last of the spacing.
      end: where the last step ends, of `levels.ENDS`.
      clip: clip predicted data to [-1, 1].

    Raises:
      ValueError: another end.
    """

    karras: bool = False
    end: str = "data"
    clip: bool = False

    def __post_init__(self) -> None:
        if self.end not in ENDS:
            raise ValueError(f"Euler end: found {self.end!r}, wanted {', '.join(ENDS)}")

    @property
    def weighted_sum(self) -> WeightedSum:
        """What its steps are."""
        return WeightedSum(clip=self.clip)

    def levels(self, diffusion: Diffusion) -> Levels:
        """Levels of S steps."""
        timesteps = exact_timesteps(diffusion.num_timesteps, diffusion.spacing)[::-1]
        visited = at.at_timesteps(diffusion, timesteps, self.end)
        if not self.karras:
            return visited
        ratio = visited.sigma[:-1] / visited.alpha[:-1]
        return at.karras(diffusion, len(timesteps), (ratio[0], ratio[-1]), self.end)

    def schedule(self, diffusion: Diffusion) -> Schedule:
        """See `Scheduled.schedule`."""
        visited = self.levels(diffusion)
        alpha, sigma = visited.alpha[:-1], visited.sigma[:-1]
        gains = _gains(visited, "data")
        rows = Weights(*data_of(diffusion, alpha, sigma), gains.keep, (gains.newest,), gains.noise)
        # x̄ begins as ρ ε, which in x is σ ε; of leading spacing with the variance of x_t, 1.
        words = read_words(diffusion.num_timesteps, diffusion.spacing)
        leading = words is not None and words.rule == "leading"
        return Schedule(visited.timesteps, float32(rows), 1.0 if leading else float(sigma[0]))


class Gains(NamedTuple):
    """Weights in (1) to (6) of every step.

    Attributes:
      keep: of x.
      newest: of m.
      noise: of ε.
    """

    keep: Row
    newest: Row
    noise: Row


def _gains(visited: Levels, form: str) -> Gains:
    alpha, sigma = visited.alpha[:-1], visited.sigma[:-1]
    alpha_after, sigma_after = visited.alpha[1:], visited.sigma[1:]
    zero = np.zeros_like(alpha)
    if form == "noise":
        grow = alpha_after / alpha * sigma / sigma_after
        return Gains(alpha_after / alpha, sigma_after * (1.0 - grow), zero)
    keep, shrink = sigma_after / sigma, _shrink(visited)
    if form == "sde":
        fresh = 1.0 - shrink**2
        return Gains(keep * shrink, alpha_after * fresh, sigma_after * np.sqrt(fresh))
    return Gains(keep, alpha_after * (1.0 - shrink), zero)


def _shrink(visited: Levels) -> Row:
    """e^-h."""
    (alpha, alpha_after), (sigma, sigma_after) = (
        (level[:-1], level[1:]) for level in (visited.alpha, visited.sigma)
    )
    return sigma_after / sigma * alpha / alpha_after


def _earlier(visited: Levels, gains: Gains, rule: str, one: Flags, two: Flags) -> tuple[Row, Row]:
    """Weights of m_1 and m_2: differences of m, so that what they take the newest gets.

    Args:
      visited: levels.
      gains: of the form.
      rule: of order 2.
      one: which steps are of order 1.
      two: which of the others are of order 2.
    """
    shrink, h = _shrink(visited), np.diff(visited.half_log_snr)
    once = visited.alpha[1:] * ((shrink - 1.0) / h + 1.0)
    twice = -visited.alpha[1:] * ((shrink - 1.0 + h) / h**2 - 0.5)
    first = np.where(two, gains.newest / 2 if rule == "midpoint" else once, once)
    h_1, h_2 = (np.append([np.nan] * back, h)[: len(h)] for back in (1, 2))
    r, r_1 = h_1 / h, h_2 / h
    bent = np.where(one | two, 0.0, (first * r + twice) / (r + r_1))  # of D - D_-
    second = np.where(one | two, 0.0, bent / r_1)
    return np.where(one, 0.0, -(first + bent) / r) - second, second
