"""MagCache's ratios: of features that are known, and of a network beside what its stages add."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.calibration import mag
from skipdit_jax.calibration.drift import RESIDUAL
from skipdit_jax.pipeline import sample_keys
from tests.networks import random_params

TINY = {"depth": 3, "hidden_size": 16, "num_heads": 2, "input_size": 4, "num_classes": 3}


def test_ratios_of_norms_that_are_known():
    """All tokens shrink by the same factor: that is their mean, whatever their direction."""
    factors = np.array([1.0, 0.5, 0.8, 1.25])
    direction = np.random.default_rng(0).normal(size=(2, 5, 3))

    def step(size, factor):
        size = size * factor
        turned = jnp.roll(direction, jnp.int32(10 * size), axis=-1)
        return size, {RESIDUAL: jnp.asarray(size * turned, jnp.float32)}

    found = mag.ratios(step, jnp.float32(1), jnp.asarray(factors, jnp.float32), 1)
    np.testing.assert_allclose(found, factors, rtol=1e-5)


def test_tokens_count_alike_whatever_their_size():
    values = np.array([[[[1.0], [100.0]]], [[[2.0], [100.0]]]])  # ratios 2 and 1

    def step(carry, row):
        return carry, {RESIDUAL: jnp.asarray(row, jnp.float32)}

    assert mag.ratios(step, 0, jnp.asarray(values), 1).tolist() == [1.0, 1.5]


def test_batches_of_a_network_are_averaged():
    model = sd.create_model("DiT-S/2", **TINY)
    params, keys = random_params(model), sample_keys(jax.random.key(0), 0, 4)
    labels = np.arange(4, dtype=np.int32) % 3
    sampler = sd.Sampler(model, steps=6, method="ddim", cache="none", guidance=2.0)
    halves = [(keys[rows], labels[rows]) for rows in (slice(0, 2), slice(2, 4))]
    whole = mag.measure_ratios(sampler, params, [(keys, labels)])
    np.testing.assert_allclose(mag.measure_ratios(sampler, params, halves), whole, rtol=1e-5)
    assert whole[0] == 1
    assert whole.shape == (6,)
    cached = sd.Sampler(model, steps=6, method="ddim", cache="fora:2")
    with pytest.raises(ValueError, match="found a sampler with a cache"):
        mag.measure_ratios(cached, params, halves)
