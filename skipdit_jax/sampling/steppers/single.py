"""DDPM and DDIM: steps without history.

Letters and equation numbers below 10 as in diffusion/gaussian.py; σ_t² is the network's variance.

Ho et al. 2006.11239, algorithm 2:
    (10)  x_{t-1} = μ_t + [t > 0] exp(½ log σ_t²) ε
Song et al. 2010.02502, eq. 16 and 12, with (5) for ε̂ at the (clipped) prediction x̂_0:
    (11)  s_t     = η sqrt((1 - ᾱ_{t-1}) / (1 - ᾱ_t)) sqrt(1 - ᾱ_t / ᾱ_{t-1})
    (12)  x_{t-1} = sqrt(ᾱ_{t-1}) x̂_0 + sqrt(1 - ᾱ_{t-1} - s_t²) ε̂ + [t > 0] s_t ε
The reverse of (12) at η = 0 (2010.02502, section 4.3):
    (13)  x_{t+1} = sqrt(ᾱ_{t+1}) x̂_0 + sqrt(1 - ᾱ_{t+1}) ε̂

Schedulers of diffusers end a step a stride before it, not at the next kept timestep, and may end
the last one at the noise of the first training timestep; they keep the noise that the network told
where x̂_0 is clipped. All that is said here, in settings that are off.

(11)-(13) take 1 - ᾱ of the float32 value ᾱ, not of the float64 table. The published samplers do so,
and where ᾱ is near 1 the difference is visible (4.5e-4 of an image's rms over one step): to get
their samples we repeat their rounding.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from skipdit_jax.diffusion.gaussian import (
    NetworkOutput,
    fixed_log_variance,
    predict,
    told_noise,
)
from skipdit_jax.diffusion.levels import ENDS
from skipdit_jax.diffusion.schedules import Diffusion, Parameterization
from skipdit_jax.diffusion.tables import Coefficients, Table, make_coefficients, make_tables
from skipdit_jax.sampling.steppers.contract import Schedule, StepState
from skipdit_jax.typing import Latents

FIXED = (None, "fixed_small", "fixed_large")


@dataclass(frozen=True, kw_only=True)
class SingleStep:
    """What steppers without history share.

    Attributes:
      clip: clip the predicted x_0 to [-1, 1].
    """

    clip: bool = False

    @property
    def stochastic(self) -> bool:
        """Whether `step` uses its noise."""
        return False

    def initialise(self, x: Latents) -> StepState:
        """Nothing is remembered."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Strided(SingleStep):
    """Where the steps of a sampler end.

    Attributes:
      stride: every step ends T // S timesteps below, as in diffusers, also where the next kept
        timestep is another (spacings "linspace" and "trailing").
      end: where the last step ends: "data", or at the noise of the "first" training timestep
        (diffusers: set_alpha_to_one False).

    Raises:
      ValueError: another end.
    """

    stride: bool = False
    end: str = "data"

    def __post_init__(self) -> None:
        if self.end not in ENDS:
            raise ValueError(f"end: found {self.end!r}, wanted one of {', '.join(ENDS)}")

    def schedule(self, diffusion: Diffusion) -> Schedule:
        """The coefficients of the process; see `Scheduled.schedule`."""
        c = diffusion.coefficients()
        if self.stride or self.end != "data":
            kept = diffusion.training_alpha_bar[diffusion.timesteps]
            c = make_coefficients(make_tables(kept, self._ends(diffusion)))
        rows = Coefficients(*(column[::-1] for column in c))
        return Schedule(diffusion.timesteps[::-1].astype(np.float64), rows)

    def _ends(self, diffusion: Diffusion) -> Table:
        """ᾱ where the step from each kept timestep ends."""
        table, kept = diffusion.training_alpha_bar, diffusion.timesteps
        below = np.append(-1, kept[:-1])
        if self.stride:
            below = kept - diffusion.num_timesteps // len(kept)
        last = 1.0 if self.end == "data" else table[0]
        return np.where(below >= 0, table[below], last)


@dataclass(frozen=True, kw_only=True)
class Ddpm(Strided):
    """Ancestral sampling (10).

    Attributes:
      variance: "fixed_small" (β̃_t) or "fixed_large" (β_t) in place of what the process says: some
        networks learned a variance that their authors do not sample with. None: as it says.

    Raises:
      ValueError: another variance.
    """

    variance: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variance not in FIXED:
            raise ValueError(
                f"Ddpm variance: found {self.variance!r}, wanted fixed_small or fixed_large"
            )

    @property
    def stochastic(self) -> bool:
        """Whether `step` uses its noise."""
        return True

    def step(
        self,
        kind: Parameterization,
        c: Coefficients,
        model_output: NetworkOutput,
        x: Latents,
        noise: Latents,
        state: StepState = (),
    ) -> tuple[Latents, StepState]:
        """Returns x_{t-1}; see `Stepper.step`."""
        p = predict(kind, c, model_output, x, self.clip)
        log_variance = p.log_variance
        if self.variance is not None:
            log_variance = fixed_log_variance(self.variance, c)
        return p.mean + c.nonzero * jnp.exp(0.5 * log_variance) * noise, state


@dataclass(frozen=True, kw_only=True)
class Ddim(Strided):
    """DDIM sampling (12).

    Attributes:
      eta: noise of the step, 0 none (the default of the paper) to 1 as much as DDPM.
      told: take the noise that the network told, also where x̂_0 is clipped (diffusers, and the
        only way from a first timestep of pure noise); else that of (5).

    Raises:
      ValueError: eta outside [0, 1], where (12) has no real root at every step.
    """

    eta: float = 0.0
    told: bool = False

    def schedule(self, diffusion: Diffusion) -> Schedule:
        """See `Scheduled.schedule`; refuses (5) where it divides by zero."""
        if diffusion.zero_snr and not self.told:
            raise ValueError("zero_snr: x_T is pure noise there, wanted ddim(told=True)")
        return super().schedule(diffusion)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.eta <= 1.0:
            raise ValueError(f"Ddim eta: found {self.eta}, wanted a number from 0 to 1")

    @property
    def stochastic(self) -> bool:
        """Whether `step` uses its noise."""
        return self.eta > 0

    def step(
        self,
        kind: Parameterization,
        c: Coefficients,
        model_output: NetworkOutput,
        x: Latents,
        noise: Latents,
        state: StepState = (),
    ) -> tuple[Latents, StepState]:
        """Returns x_{t-1}; see `Stepper.step`."""
        p = predict(kind, c, model_output, x, self.clip)
        shrink = (1 - c.alpha_bar_prev) / (1 - c.alpha_bar)
        s = self.eta * jnp.sqrt(shrink) * jnp.sqrt(1 - c.alpha_bar / c.alpha_bar_prev)
        along = jnp.sqrt(1 - c.alpha_bar_prev - s**2)
        eps = told_noise(kind, c, model_output, x) if self.told else p.eps
        x = p.pred_xstart * jnp.sqrt(c.alpha_bar_prev) + along * eps + c.nonzero * s * noise
        return x, state


@dataclass(frozen=True, kw_only=True)
class DdimReverse(SingleStep):
    """Deterministic encoding (13): the loop runs from index 0 upwards."""

    def step(
        self,
        kind: Parameterization,
        c: Coefficients,
        model_output: NetworkOutput,
        x: Latents,
        noise: Latents,
        state: StepState = (),
    ) -> tuple[Latents, StepState]:
        """Returns x_{t+1}; the noise is ignored. See `Stepper.step`."""
        p = predict(kind, c, model_output, x, self.clip)
        x = p.pred_xstart * jnp.sqrt(c.alpha_bar_next) + jnp.sqrt(1 - c.alpha_bar_next) * p.eps
        return x, state
