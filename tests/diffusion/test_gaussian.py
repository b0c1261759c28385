import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skipdit_jax.diffusion.gaussian import (
    predict,
    q_mean_variance,
    q_posterior,
    q_sample,
    take,
    training_target,
)
from skipdit_jax.diffusion.schedules import PREDICTIONS, Diffusion, Parameterization

T = jnp.array([0, 1, 17, 49])
DIFFUSION = Diffusion(spacing="50")


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


@pytest.fixture(params=[(4, 2, 3, 5), (4, 3, 2, 2, 5)], ids=["images", "videos"])
def example(request):
    x0, noise = draw(0, *request.param), draw(1, *request.param)
    c = take(DIFFUSION.coefficients(), T, x0.ndim)
    return c, x0, noise, q_sample(c, x0, noise)


def test_take_gives_each_sample_its_row(example):
    c, x0, _, _ = example
    for column, rows in zip(DIFFUSION.coefficients(), c, strict=True):
        assert rows.shape == (4,) + (1,) * (x0.ndim - 1)
        np.testing.assert_array_equal(rows.ravel(), column[T])


def test_a_row_of_scalars_and_rows_per_sample_agree(example):
    _, x0, noise, xt = example
    for i, t in enumerate(T):
        row = jax.tree.map(lambda column, t=t: column[t], DIFFUSION.coefficients())
        np.testing.assert_array_equal(q_sample(row, x0, noise)[i], xt[i])


def test_noising_starts_at_the_data_and_ends_at_the_noise():
    x0, noise = draw(0, 2, 4, 4, 3), draw(1, 2, 4, 4, 3)
    c = take(Diffusion().coefficients(), jnp.array([0, 999]), 4)
    xt = q_sample(c, x0, noise)
    # sqrt(1 - ᾱ_0) = 0.01; sqrt(ᾱ_T) = 0.0064 (2305.08891, table 1)
    np.testing.assert_allclose(xt[0], x0[0] + 0.01 * noise[0], atol=3e-4)
    np.testing.assert_allclose(xt[1], noise[1] + 0.006353 * x0[1], atol=1e-4)


def test_noising_moments(example):
    c, x0, noise, xt = example
    q = q_mean_variance(c, x0)
    np.testing.assert_allclose(q.mean + jnp.sqrt(q.variance) * noise, xt, atol=1e-6)
    np.testing.assert_allclose(jnp.exp(q.log_variance), q.variance, rtol=1e-5)


def test_posterior_follows_from_bayes():
    """N(x_t; sqrt(α) y, β) times N(y; sqrt(ᾱ_prev) x_0, 1 - ᾱ_prev), for y = x_{t-1}."""
    index = np.arange(1, DIFFUSION.num_steps)
    c = take(DIFFUSION.coefficients(), jnp.asarray(index), 3)
    x0, xt = draw(0, len(index), 2, 3), draw(1, len(index), 2, 3)
    levels = np.cumprod(1 - Diffusion().tables.beta)[DIFFUSION.timesteps]
    alpha, prior = levels[1:] / levels[:-1], levels[:-1]
    precision = alpha / (1 - alpha) + 1 / (1 - prior)
    pull = (np.sqrt(alpha) / (1 - alpha))[:, None, None] * np.asarray(xt, np.float64)
    pull += (np.sqrt(prior) / (1 - prior))[:, None, None] * np.asarray(x0, np.float64)
    q = q_posterior(c, x0, xt)
    np.testing.assert_allclose(q.variance[:, 0, 0], 1 / precision, rtol=1e-6)
    np.testing.assert_allclose(q.log_variance[:, 0, 0], -np.log(precision), rtol=1e-6)
    np.testing.assert_allclose(q.mean, pull / precision[:, None, None], atol=1e-6)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_perfect_network_recovers_data_and_noise(example, prediction):
    c, x0, noise, xt = example
    kind = Parameterization(prediction=prediction, variance="fixed_small")
    p = predict(kind, c, training_target(kind, c, x0, noise), xt)
    # the last step multiplies by sqrt(1/ᾱ) = 157, the first divides by sqrt(1/ᾱ - 1) = 0.01
    np.testing.assert_allclose(p.pred_xstart, x0, atol=2e-4)
    np.testing.assert_allclose(p.eps, noise, atol=2e-4)
    np.testing.assert_allclose(p.mean, q_posterior(c, x0, xt).mean, atol=2e-6)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_clipped_data_and_implied_noise_still_make_the_input(example, prediction):
    c, _, _, xt = example
    kind = Parameterization(prediction=prediction, variance="fixed_small")
    p = predict(kind, c, draw(2, *xt.shape), xt, clip=True)
    assert jnp.abs(p.pred_xstart).max() == 1
    np.testing.assert_allclose(q_sample(c, p.pred_xstart, p.eps), xt, atol=1e-5)
    np.testing.assert_allclose(p.mean, q_posterior(c, p.pred_xstart, xt).mean, atol=1e-6)


def test_learned_variance_runs_between_the_two_fixed_ones(example):
    c, x0, _, xt = example

    def log_variance(variance, ratio=None):
        output = x0 if ratio is None else jnp.concatenate([x0, jnp.full_like(x0, ratio)], axis=-1)
        return predict(Parameterization(variance=variance), c, output, xt).log_variance

    small, large = log_variance("fixed_small"), log_variance("fixed_large")
    np.testing.assert_allclose(log_variance("learned_range", -1.0), small, rtol=1e-6)
    np.testing.assert_allclose(log_variance("learned_range", 1.0)[1:], large[1:], rtol=1e-6)
    middle = log_variance("learned_range", 0.0)[1:]
    np.testing.assert_allclose(middle, (small[1:] + large[1:]) / 2, rtol=1e-6)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_fixed_variances_at_the_first_step(example, variance):
    """2102.09672, section 3: log β̃_0 does not exist, β̃_1 stands in."""
    c, x0, _, xt = example
    p = predict(Parameterization(variance=variance), c, x0, xt)
    beta_tilde = DIFFUSION.tables.posterior_variance
    np.testing.assert_allclose(jnp.exp(p.log_variance[0]), beta_tilde[1], rtol=1e-5)
    np.testing.assert_allclose(jnp.exp(p.log_variance[1:]), p.variance[1:], rtol=1e-5)


@pytest.mark.parametrize(("variance", "channels"), [("learned_range", 5), ("fixed_small", 10)])
def test_a_wrong_number_of_channels_is_named(example, variance, channels):
    c, _, _, xt = example
    output = draw(2, *xt.shape[:-1], channels)
    with pytest.raises(ValueError, match=f"found {channels} channels, wanted {15 - channels}"):
        predict(Parameterization(variance=variance), c, output, xt)
