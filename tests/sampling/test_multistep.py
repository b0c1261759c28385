"""A multistep solver of somebody else: its history is a value of the loop, in every driver.

Adams-Bashforth of order two on dy/dσ = ε(x, t) with y = x / sqrt(ᾱ) and σ = sqrt(1/ᾱ - 1), the
probability-flow ODE (Song et al., 2010.02502, eq. 14). For data N(0, S²) network and solution are
known, so that the order of convergence shows whether the history arrives.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.sampling import loop
from skipdit_jax.sampling.denoiser import Denoiser
from skipdit_jax.sampling.guidance import Guidance
from skipdit_jax.sampling.steppers import Ddim, Stepper

S = 0.5
SHAPE = (1, 1, 1, 1)


@dataclass(frozen=True)
class AdamsBashforth:
    stochastic: ClassVar[bool] = False

    def initialise(self, x):
        return {"slope": jnp.zeros_like(x), "step": jnp.zeros(())}

    def step(self, kind, c, eps, x, noise, state):
        sigma, after = (jnp.sqrt(1 / a - 1) for a in (c.alpha_bar, c.alpha_bar_prev))
        step = after - sigma
        first = state["step"] == 0
        ratio = jnp.where(first, 0.0, step / jnp.where(first, 1.0, state["step"]))
        slope = eps + 0.5 * ratio * (eps - state["slope"])
        y = x / jnp.sqrt(c.alpha_bar) + step * slope
        return y * jnp.sqrt(c.alpha_bar_prev), {"slope": eps, "step": step}


def best_network(diffusion):
    table = jnp.asarray(np.cumprod(1 - diffusion._training_betas), jnp.float32)

    def call(x, t, scale, cache, *rest):
        alpha_bar = table[t.astype(jnp.int32)]
        return jnp.sqrt(1 - alpha_bar) * x / (alpha_bar * S**2 + 1 - alpha_bar), cache

    return Denoiser(call, None)


def solved(stepper, steps, driver="scan"):
    """The error of x_0 from x_T = 1."""
    diffusion = Diffusion(spacing=str(steps), variance="fixed_small")
    rows = loop.step_inputs(diffusion, Guidance())
    network, kind = best_network(diffusion), diffusion.parameterization

    @jax.jit
    def run(x):
        return loop.run(network, stepper, kind, x, rows, jnp.zeros_like, driver=driver)[0]

    last = diffusion.tables.alpha_bar[-1]
    return float(run(jnp.ones(SHAPE)).item()) - S / np.sqrt(last * S**2 + 1 - last)


def test_it_is_a_stepper():
    assert isinstance(AdamsBashforth(), Stepper)


def test_it_converges_at_second_order_where_ddim_has_the_first():
    two, one = (
        [abs(solved(stepper, steps)) for steps in (25, 50, 100)]
        for stepper in (AdamsBashforth(), Ddim())
    )
    assert 3.5 < two[0] / two[1] < 4.5
    assert 3.5 < two[1] / two[2] < 4.5
    assert 1.6 < one[0] / one[1] < 2.4
    assert two[1] < 0.25 * one[1]


@pytest.mark.parametrize("driver", ["nested", "unrolled"])
def test_its_history_arrives_in_every_driver(driver):
    assert solved(AdamsBashforth(), 10, driver) == pytest.approx(
        solved(AdamsBashforth(), 10), abs=1e-5
    )
