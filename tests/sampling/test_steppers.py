from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skipdit_jax.diffusion.gaussian import predict, take
from skipdit_jax.diffusion.schedules import Diffusion, Parameterization
from skipdit_jax.sampling.steppers import Ddim, DdimReverse, Ddpm

EPSILON = Parameterization(variance="fixed_small")
SHAPE = (2, 4, 4, 3)
STEPPERS = (Ddpm(), Ddim(), Ddim(eta=0.5), Ddim(eta=1.0), DdimReverse())


def draw(seed):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(SHAPE, np.float32))


def moved(stepper, *arguments):
    """The latents after a step of a stepper without history."""
    x, state = stepper.step(*arguments)
    assert state == ()
    return x


def rows(diffusion):
    """Coefficients of one step each, from the noisiest on."""
    c = diffusion.coefficients()
    for index in reversed(range(diffusion.num_steps)):
        yield index, jax.tree.map(lambda column, i=index: jnp.asarray(column[i]), c)


@pytest.mark.parametrize("spacing", ["20", "ddim25", "5,10,3"])
def test_ddim_with_eta_1_is_ddpm_with_the_posterior_variance(spacing):
    """2010.02502, section 4.1."""
    x, eps, noise = draw(0), draw(1), draw(2)
    for index, c in rows(Diffusion(spacing=spacing)):
        ddim = moved(Ddim(eta=1.0), EPSILON, c, eps, x, noise)
        ddpm = moved(Ddpm(), EPSILON, c, eps, x, noise)
        np.testing.assert_allclose(ddim, ddpm, rtol=2e-4, atol=2e-4, err_msg=f"index {index}")


@pytest.mark.parametrize("clip", [False, True])
def test_ddim_step_undoes_the_reverse_step_for_the_same_noise(clip):
    steps = dict(rows(Diffusion(spacing="20")))
    xstart = Parameterization(prediction="xstart", variance="fixed_small")
    x, x0 = draw(0), draw(1)
    for index in range(19):
        there = moved(DdimReverse(clip=clip), xstart, steps[index], x0, x, x)
        back = moved(Ddim(clip=clip), xstart, steps[index + 1], x0, there, x)
        # 1 - ᾱ of a float32 ᾱ is known to 3e-4 at index 0
        np.testing.assert_allclose(back, x, atol=5e-4, err_msg=f"index {index}")


def test_deterministic_loop_and_its_reverse_return_to_the_start():
    """For data N(0, s²) the best network is known; small steps make the loop invertible."""
    diffusion = Diffusion(spacing="250", variance="fixed_small")
    start = draw(0)
    data = deterministic(Ddim(), diffusion, start, list(rows(diffusion)))
    encoded = deterministic(DdimReverse(), diffusion, data, list(rows(diffusion))[:0:-1])
    np.testing.assert_allclose(encoded, start, rtol=0.03, atol=0.03)


S = 0.5
"""Standard deviation of Gaussian data."""


def best_eps(alpha_bar, x):
    """E[ε | x_t] for data N(0, S²)."""
    return jnp.sqrt(1 - alpha_bar) * x / (alpha_bar * S**2 + 1 - alpha_bar)


def deterministic(stepper, diffusion, x, steps):
    kind = diffusion.parameterization
    jitted = jax.jit(lambda c, x: moved(stepper, kind, c, best_eps(c.alpha_bar, x), x, x))
    for _, c in steps:
        x = jitted(c, x)
    return x


def test_ddim_converges_to_the_exact_solution_at_first_order():
    """The probability-flow ODE of Gaussian data scales x: x_0 = x_T S / sqrt(ᾱ_T S² + 1 - ᾱ_T)."""
    start = jnp.ones((1, 1, 1, 1))
    errors = []
    for spacing in ("50", "100", "200"):
        diffusion = Diffusion(spacing=spacing, variance="fixed_small")
        last = diffusion.tables.alpha_bar[-1]
        exact = S / np.sqrt(last * S**2 + 1 - last)
        found = deterministic(Ddim(), diffusion, start, rows(diffusion))
        errors.append(abs(float(found.item()) - exact))
    assert errors[2] < 0.01
    assert 1.6 < errors[0] / errors[1] < 2.4
    assert 1.6 < errors[1] / errors[2] < 2.4


def test_ancestral_sampling_reaches_the_variance_of_the_data():
    """A step is linear in x and noise here, so the variance of x follows without sampling."""
    diffusion = Diffusion(variance="fixed_large")
    kind = diffusion.parameterization

    @jax.jit
    def gains(c):
        one = jnp.ones((1, 1, 1, 1))
        mean = moved(Ddpm(), kind, c, best_eps(c.alpha_bar, one), one, 0 * one)
        spread = moved(Ddpm(), kind, c, 0 * one, 0 * one, one)
        return mean.sum(), spread.sum()

    variance = 1.0
    for _, c in rows(diffusion):
        mean, spread = gains(c)
        variance = float(mean) ** 2 * variance + float(spread) ** 2
    assert variance == pytest.approx(S**2, rel=0.02)


@pytest.mark.parametrize("stepper", STEPPERS, ids=repr)
def test_noise_matters_unless_the_step_is_deterministic_or_the_last(stepper):
    x, eps = draw(0), draw(1)
    for index, c in rows(Diffusion(spacing="3")):
        a, b = (moved(stepper, EPSILON, c, eps, x, draw(seed)) for seed in (2, 3))
        assert bool(jnp.array_equal(a, b)) is not (stepper.stochastic and index > 0)


@pytest.mark.parametrize("clip", [False, True])
def test_the_last_deterministic_step_returns_the_predicted_data(clip):
    index, c = list(rows(Diffusion(spacing="5")))[-1]
    x, eps = draw(0), draw(1)
    want = predict(EPSILON, c, eps, x, clip).pred_xstart
    np.testing.assert_array_equal(moved(Ddim(clip=clip), EPSILON, c, eps, x, draw(2)), want)
    assert index == 0


@pytest.mark.parametrize("stepper", STEPPERS, ids=repr)
def test_rows_per_sample_equal_scalars(stepper):
    diffusion = Diffusion(spacing="10")
    x, eps, noise = draw(0), draw(1), draw(2)
    both = take(diffusion.coefficients(), jnp.array([0, 6]), x.ndim)
    together = moved(stepper, EPSILON, both, eps, x, noise)
    steps = dict(rows(diffusion))
    for i, index in enumerate((0, 6)):
        alone = moved(stepper, EPSILON, steps[index], eps, x, noise)
        np.testing.assert_allclose(together[i], alone[i], rtol=1e-6, atol=1e-6)


def test_another_schedule_of_equal_length_compiles_nothing():
    x = draw(0)

    @partial(jax.jit, static_argnums=(0, 1))
    def loop(stepper, kind, columns, x):
        def step(x, c):
            return moved(stepper, kind, c, x, x, x), None

        return jax.lax.scan(step, x, columns, reverse=True)[0]

    for schedule, spacing in (("linear", "50"), ("squaredcos_cap_v2", "ddim50")):
        diffusion = Diffusion(schedule=schedule, spacing=spacing, variance="fixed_small")
        loop(Ddim(eta=0.5), diffusion.parameterization, diffusion.coefficients(), x)
    assert loop._cache_size() == 1


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan")])
def test_eta_outside_its_range_is_refused(eta):
    with pytest.raises(ValueError, match="Ddim eta: found"):
        Ddim(eta=eta)
