"""Solvers whose every step is a weighted sum: one pure step for all of them.

With f the network's output and m what it predicts, data or noise or velocity, whichever the solver
holds constant over a step:

    (1)  m_i     = p_i x_i + o_i f_i                                 [clipped on request]
    (2)  x_{i+1} = k_i x_i + Σ_j w_ij m_{i-j} + s_i ε_i

p, o, k, w and s follow from the levels of a schedule alone, so they are made on the host in float64
and are data of the compiled program: levels, predictions and solvers that look back as far compile
nothing new. What differs between solvers is how they choose the weights.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from skipdit_jax.diffusion.gaussian import NetworkOutput, check_channels
from skipdit_jax.diffusion.schedules import FLOW, Parameterization
from skipdit_jax.sampling.steppers.contract import Stepper, StepState
from skipdit_jax.typing import Latents

Column = Float[Array | np.ndarray, "*S"]


class Weights(NamedTuple):
    """Weights of (1) and (2), float32 [S], or those of one step.

    Attributes:
      of_x: p.
      of_output: o.
      keep: k.
      pull: w of the newest prediction and of those before it.
      noise: s.
    """

    of_x: Column
    of_output: Column
    keep: Column
    pull: tuple[Column, ...]
    noise: Column


@dataclass(frozen=True, kw_only=True)
class WeightedSum:
    """The step (2): all that a compiled program knows of a solver.

    Attributes:
      past: how many earlier predictions a step needs.
      stochastic: whether `step` uses its noise.
      clip: clip predictions, of data, to [-1, 1].
    """

    past: int = 0
    stochastic: bool = False
    clip: bool = False

    def initialise(self, x: Latents) -> StepState:
        """No predictions yet; the first steps give them no weight."""
        return tuple(jnp.zeros_like(x) for _ in range(self.past))

    def step(
        self,
        kind: Parameterization,
        c: Weights,
        model_output: NetworkOutput,
        x: Latents,
        noise: Latents,
        state: StepState,
    ) -> tuple[Latents, StepState]:
        """Returns (2) and the newest predictions; see `Stepper.step`."""
        channels = check_channels(kind, model_output, x)
        m = c.of_x * x + c.of_output * model_output[..., :channels]
        if self.clip:
            m = jnp.clip(m, -1.0, 1.0)
        known = (m, *state)
        after = jnp.asarray(c.keep) * x
        for weight, prediction in zip(c.pull, known, strict=True):
            after = after + weight * prediction
        if self.stochastic:
            after = after + c.noise * noise
        return after, known[: self.past]


class Solver:
    """A base of frozen dataclasses that choose weights; each adds `schedule`."""

    @property
    def weighted_sum(self) -> WeightedSum:
        """What its steps are."""
        return WeightedSum()

    @property
    def stochastic(self) -> bool:
        """Whether `step` uses its noise."""
        return self.weighted_sum.stochastic

    def initialise(self, x: Latents) -> StepState:
        """See `WeightedSum`."""
        return self.weighted_sum.initialise(x)

    def step(
        self,
        kind: Parameterization,
        c: Weights,
        model_output: NetworkOutput,
        x: Latents,
        noise: Latents,
        state: StepState,
    ) -> tuple[Latents, StepState]:
        """See `WeightedSum`."""
        return self.weighted_sum.step(kind, c, model_output, x, noise, state)


def traced_part(stepper: Stepper) -> Stepper:
    """What a program is made of: solvers that differ in their weights alone share one."""
    return stepper.weighted_sum if isinstance(stepper, Solver) else stepper


def data_of(
    kind: Parameterization, alpha: Float[np.ndarray, "S"], sigma: Float[np.ndarray, "S"]
) -> tuple[Float[np.ndarray, "S"], Float[np.ndarray, "S"]]:
    """Weights of x and f in predicted data: (4), (7) of gaussian.py, and x_0 = x - σ v of flow."""
    one = np.ones_like(alpha)
    return {
        "epsilon": lambda: (one / alpha, -sigma / alpha),
        "xstart": lambda: (0 * one, one),
        "v": lambda: (alpha, -sigma),
        FLOW: lambda: (one, -sigma),
    }[kind.prediction]()


def noise_of(
    kind: Parameterization, alpha: Float[np.ndarray, "S"], sigma: Float[np.ndarray, "S"]
) -> tuple[Float[np.ndarray, "S"], Float[np.ndarray, "S"]]:
    """Weights of x and f in predicted noise, likewise."""
    one = np.ones_like(alpha)
    return {
        "epsilon": lambda: (0 * one, one),
        "xstart": lambda: (one / sigma, -alpha / sigma),
        "v": lambda: (sigma, alpha),
        FLOW: lambda: (one, alpha),
    }[kind.prediction]()


def float32(weights: Weights) -> Weights:
    """The weights as the program takes them."""
    return jax.tree.map(lambda column: np.asarray(column, np.float32), weights)
