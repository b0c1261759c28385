import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skipdit_jax.diffusion.likelihood import (
    decoder_log_likelihood,
    normal_kl,
    prior_bits,
    variational_bound,
)
from skipdit_jax.diffusion.schedules import Diffusion

LEVELS = jnp.linspace(-1, 1, 256)


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def test_kl_of_equal_distributions_is_zero():
    mean, log_variance = draw(0, 2, 100)
    np.testing.assert_allclose(normal_kl(mean, log_variance, mean, log_variance), 0, atol=1e-6)


@pytest.mark.parametrize(
    ("mean1", "sigma1", "mean2", "sigma2"), [(0.0, 1.0, 0.5, 2.0), (1.0, 0.3, -0.2, 0.5)]
)
def test_kl_equals_its_integral(mean1, sigma1, mean2, sigma2):
    x, step = np.linspace(mean1 - 12 * sigma1, mean1 + 12 * sigma1, 20001, retstep=True)
    log1, log2 = (
        -0.5 * ((x - m) / s) ** 2 - np.log(s * np.sqrt(2 * np.pi))
        for m, s in ((mean1, sigma1), (mean2, sigma2))
    )
    want = np.sum(np.exp(log1) * (log1 - log2)) * step
    arguments = (mean1, 2 * math.log(sigma1), mean2, 2 * math.log(sigma2))
    got = normal_kl(*(jnp.asarray(a, jnp.float32) for a in arguments))
    assert float(got) == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("mean", [-1.2, -0.4, 0.0, 0.999])
@pytest.mark.parametrize("scale", [0.004, 0.05, 1.0])
def test_decoder_is_a_distribution_over_the_256_levels(mean, scale):
    x = LEVELS[:, None, None]
    log_p = decoder_log_likelihood(x, jnp.full_like(x, mean), jnp.full_like(x, math.log(scale)))
    assert float(jnp.exp(log_p).sum()) == pytest.approx(1, abs=2e-5)


@pytest.mark.parametrize("scale", [0.01, 0.2])
def test_decoder_integrates_the_normal_density_over_the_bin(scale):
    """Within the error of Page's approximation, 1.8e-4 per distribution value (Page 1977)."""
    x, mean = LEVELS[100:160], 0.1

    def cdf(z):
        return 0.5 * (1 + math.erf(z / math.sqrt(2)))

    want = [cdf((v - mean + 1 / 255) / scale) - cdf((v - mean - 1 / 255) / scale) for v in x]
    x = x[:, None, None]
    log_p = decoder_log_likelihood(x, jnp.full_like(x, mean), jnp.full_like(x, math.log(scale)))
    np.testing.assert_allclose(jnp.exp(log_p).ravel(), want, atol=4e-4)


def test_a_wide_decoder_counts_bins():
    """-log2 p = log2(σ sqrt(2 π) / bin width) at the mean of a smooth density."""
    x = jnp.zeros((1, 2, 2, 1))
    log_p = decoder_log_likelihood(x, x, jnp.full_like(x, math.log(0.5)))
    want = math.log2(0.5 * math.sqrt(2 * math.pi) / (2 / 255))
    np.testing.assert_allclose(-log_p / math.log(2), want, rtol=1e-4)


def test_values_and_gradients_stay_finite_far_from_the_data():
    x = jnp.array([-1.0, -0.3, 0.0, 1.0])[:, None, None]
    for mean in (-1e4, -1.0, 1.0, 1e4):
        for log_scale in (-10.0, 0.0, 5.0):
            arguments = (jnp.full_like(x, mean), jnp.full_like(x, log_scale))
            value, gradients = jax.value_and_grad(
                lambda m, s: decoder_log_likelihood(x, m, s).sum(), argnums=(0, 1)
            )(*arguments)
            assert jnp.isfinite(value)
            assert all(jnp.isfinite(gradient).all() for gradient in gradients)


def test_prior_is_what_the_last_step_leaves_of_the_data():
    """KL(N(sqrt(ᾱ) x, 1 - ᾱ) || N(0, 1)) = ½ (ᾱ x² - ᾱ - log(1 - ᾱ)) nats."""
    x0 = jnp.full((1, 2, 2, 3), 0.7)
    diffusion = Diffusion(schedule="scaled_linear")
    alpha_bar = diffusion.tables.alpha_bar[-1]
    want = 0.5 * (alpha_bar * 0.7**2 - alpha_bar - math.log(1 - alpha_bar)) / math.log(2)
    np.testing.assert_allclose(prior_bits(diffusion, x0), want, rtol=1e-4)


def test_the_bound_of_gaussian_data_is_its_entropy():
    """Pixels N(0, s²) and the best network: bits = log2(s sqrt(2 π e) / bin width), from above."""
    s = 0.3
    diffusion = Diffusion(variance="fixed_large", spacing="250")
    signal = jnp.asarray(Diffusion().tables.alpha_bar, jnp.float32)

    def network(x, t):
        alpha_bar = signal[t.astype(jnp.int32)][:, None, None, None]
        return jnp.sqrt(1 - alpha_bar) * x / (alpha_bar * s**2 + 1 - alpha_bar)

    x0 = draw(0, 512, 4, 2, 1)
    x0 = x0 * s / jnp.sqrt(jnp.mean(x0**2))  # the sample's own entropy, not its fluctuation
    noise = draw(1, diffusion.num_steps, *x0.shape)
    bound = jax.jit(partial(variational_bound, diffusion, network, clip=False))(x0, noise)
    entropy = math.log2(s * math.sqrt(2 * math.pi * math.e) / (2 / 255))
    assert 0 < float(bound.total.mean()) - entropy < 0.1  # 512 samples: standard error 0.03
