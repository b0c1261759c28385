"""Surfaces of a network: in the middle and in a corner they are what training has there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.calibration.surfaces import ACROSS, ALONG, measure_surface, noised
from skipdit_jax.diffusion.gaussian import q_sample
from skipdit_jax.evaluation.stability import filter_normalised
from skipdit_jax.registry import default_diffusion
from skipdit_jax.training.draws import Draws
from skipdit_jax.training.step import make_loss
from tests.networks import apply, random_params

TINY = {"depth": 4, "hidden_size": 16, "num_heads": 2, "input_size": 4, "num_classes": 3}
SIDES, TIMES, SEED = np.array([-0.2, 0.0, 0.2]), np.array([50, 800], np.int32), 3
LABELS = np.array([0, 2])


@pytest.fixture(scope="module")
def taken():
    """A model, its weights, what its surface was taken on, and the surface."""
    model = sd.create_model("DiT-S/2-skip", **TINY)
    params = random_params(model)
    x0 = np.random.default_rng(0).uniform(-1, 1, (2, *model.sample_shape)).astype(np.float32)
    on = noised(model, x0, LABELS, TIMES, SEED)
    found = measure_surface(model, default_diffusion(model), params, on, SIDES, SEED)
    return model, params, on, found


def at_corner(params):
    """Weights at the first of both coordinates, added up apart."""
    along, across = (filter_normalised(params, (SEED, which)) for which in (ALONG, ACROSS))
    return jax.tree.map(
        lambda leaf, d, e: leaf + SIDES[0].astype(np.float32) * (d + e), params, along, across
    )


def test_the_loss_is_that_of_training(taken):
    model, params, on, found = taken
    loss = make_loss(lambda *given: apply(model, *given), default_diffusion(model))
    for place, weights in {(1, 1): params, (0, 0): at_corner(params)}.items():
        for number, t in enumerate(TIMES):
            draws = Draws(jnp.full(2, t), on.noise, on.condition)
            wanted, _ = loss(weights, on.x0, draws)
            np.testing.assert_allclose(found.loss[(*place, number)], wanted, rtol=1e-4)


def test_features_are_compared_with_those_of_the_weights_as_they_are(taken):
    model, params, on, found = taken
    assert found.feature.shape == (3, 3, 2)
    assert not found.feature[1, 1].any()
    assert not found.output[1, 1].any()
    np.testing.assert_allclose(found.cosine[1, 1], 1, atol=1e-5)
    c = jax.tree.map(lambda column: column[TIMES[1]], default_diffusion(model).coefficients())
    xt, t = q_sample(c, on.x0, on.noise), jnp.full(2, float(TIMES[1]))
    here, there = (
        np.asarray(apply(model, weights, xt, t, on.condition), np.float64)
        for weights in (params, at_corner(params))
    )
    wanted = np.abs(there - here).sum() / np.abs(here).sum()
    np.testing.assert_allclose(found.output[0, 0, 1], wanted, rtol=1e-3)
