"""What the sampling loop asks of a sampler."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from skipdit_jax.diffusion.gaussian import NetworkOutput
from skipdit_jax.diffusion.schedules import Diffusion, Parameterization
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
        c: Any,
        model_output: NetworkOutput,
        x: Latents,
        noise: Latents,
        state: StepState,
    ) -> tuple[Latents, StepState]:
        """Takes one step.

        Args:
          kind: what the output means; a `Diffusion` is one too.
          c: `Coefficients` of the step, scalars or [B,1,..,1]; at index 0 the noise has no effect.
            Of a `Scheduled` stepper its own row of the step.
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


class Schedule(NamedTuple):
    """All that a run needs that depends on no data, made on the host in float64.

    Attributes:
      timesteps: what the network is given at each call, [S], in sampling order.
      rows: what `step` is given as `c`, a pytree of float32 [S].
      start: standard deviation of the noise that the first step begins with.
    """

    timesteps: Float[np.ndarray, "S"]
    rows: Any
    start: float = 1.0


@runtime_checkable
class Scheduled(Protocol):
    """A stepper that makes its own rows; the loop gives any other those of the process."""

    def schedule(self, diffusion: Diffusion) -> Schedule:
        """Returns timesteps and rows of a run of `diffusion.spacing`.

        Raises:
          ValueError: a process that this stepper cannot follow.
        """
        ...
