"""One step of a sampler: from x_t and the network's output to its neighbour in time.

Letters and equation numbers below 10 as in diffusion/gaussian.py; σ_t² is the network's variance.

Ho et al. 2006.11239, algorithm 2:
    (10)  x_{t-1} = μ_t + [t > 0] exp(½ log σ_t²) ε
Song et al. 2010.02502, eq. 16 and 12, with (5) for ε̂ at the (clipped) prediction x̂_0:
    (11)  s_t     = η sqrt((1 - ᾱ_{t-1}) / (1 - ᾱ_t)) sqrt(1 - ᾱ_t / ᾱ_{t-1})
    (12)  x_{t-1} = sqrt(ᾱ_{t-1}) x̂_0 + sqrt(1 - ᾱ_{t-1} - s_t²) ε̂ + [t > 0] s_t ε
The reverse of (12) at η = 0 (2010.02502, section 4.3):
    (13)  x_{t+1} = sqrt(ᾱ_{t+1}) x̂_0 + sqrt(1 - ᾱ_{t+1}) ε̂

(11)-(13) take 1 - ᾱ of the float32 value ᾱ, not of the float64 table. The published samplers do so,
and where ᾱ is near 1 the difference is visible (4.5e-4 of an image's rms over one step): to get
their samples we repeat their rounding.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp

from skipdit_jax.diffusion.gaussian import NetworkOutput, predict
from skipdit_jax.diffusion.schedules import Coefficients, Parameterization
from skipdit_jax.typing import Latents

StepState = Any
"""What a stepper remembers from step to step: a pytree of arrays of fixed shapes, () for none."""


@runtime_checkable
class Stepper(Protocol):
    """A sampler as the loop runs it: a frozen dataclass of its settings, without state of its own.

    A multistep solver keeps its history in the state, which goes in and comes out.
    """

    @property
    def stochastic(self) -> bool:
        """Whether `step` uses its noise."""
        ...

    def initialise(self, x: Latents) -> StepState:
        """Returns the state before the first step from x."""
        ...

    def step(
        self,
        kind: Parameterization,
        c: Coefficients,
        model_output: NetworkOutput,
        x: Latents,
        noise: Latents,
        state: StepState,
    ) -> tuple[Latents, StepState]:
        """Takes one step.

        Args:
          kind: what the output means; a `Diffusion` is one too.
          c: coefficients of the step, scalars or [B,1,..,1]; at index 0 the noise has no effect.
          model_output: [B,*grid,C] or [B,*grid,2C].
          x: x_t.
          noise: ε, standard normal.
          state: of `initialise`, or of the step before.

        Returns:
          The latents of the next step, and the state for it.

        Raises:
          ValueError: wrong number of output channels.
        """
        ...


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
class Ddpm(SingleStep):
    """Ancestral sampling (10)."""

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
        return p.mean + c.nonzero * jnp.exp(0.5 * p.log_variance) * noise, state


@dataclass(frozen=True, kw_only=True)
class Ddim(SingleStep):
    """DDIM sampling (12).

    Attributes:
      eta: noise of the step, 0 none (the default of the paper) to 1 as much as DDPM.
      clip: clip the predicted x_0 to [-1, 1].

    Raises:
      ValueError: eta outside [0, 1], where (12) has no real root at every step.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
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
        x = p.pred_xstart * jnp.sqrt(c.alpha_bar_prev) + along * p.eps + c.nonzero * s * noise
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
