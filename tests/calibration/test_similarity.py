"""Similarity of features that are known at every step, and of those that `drift` sees too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.calibration.drift import measure_drift
from skipdit_jax.calibration.similarity import measure_similarity, watching_stages
from skipdit_jax.pipeline import sample_keys
from tests.networks import random_params

STEPS, STAGES = 6, 4
TURN = 1e-3  # radians of a feature in a unit of time
TINY = {"depth": 4, "hidden_size": 16, "num_heads": 2, "input_size": 4, "num_classes": 3}


def turning():
    """A network whose features turn with time, at each stage larger, and draw nothing."""

    def embed(params, x, t, condition):
        angle = TURN * t
        return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)[:, None], None

    return sd.own_model(
        init=lambda key: {"none": jnp.zeros(1)},
        embed=embed,
        stage=lambda params, u, h, c, seam: (u + 1) * h,
        head=lambda params, h, c: jnp.zeros((len(h), 2, 2, 1)),
        sample_shape=(2, 2, 1),
        conditioning=sd.ClassConditioning(0, dropout=0.0),
        costs=sd.Costs(stage=1, fuse=0, num_stages=STAGES, num_skips=0),
    )


def test_features_that_turn_are_as_alike_as_their_angles():
    sampler = sd.Sampler(turning(), steps=STEPS, method="ddim", cache="none")
    keys = sample_keys(jax.random.key(0), 0, 4)
    batches = [(keys[:2], None), (keys[2:], None)]
    found = measure_similarity(sampler, {"none": jnp.zeros(1)}, batches)
    angle = TURN * np.asarray(sampler.inputs.t, np.float64)
    where = np.stack([np.cos(angle), np.sin(angle)])
    changes = np.abs(np.diff(where)).sum(axis=0) / np.abs(where[:, :-1]).sum(axis=0)
    assert found.cosine.shape == found.relative.shape == (STEPS, STAGES)
    for stage in range(STAGES):
        np.testing.assert_allclose(found.cosine[1:, stage], np.cos(np.diff(angle)), atol=1e-5)
        np.testing.assert_allclose(found.relative[1:, stage], changes, rtol=1e-4)
    assert np.isnan(found.cosine[0]).all()
    assert np.isnan(found.relative[0]).all()


def test_l1_differences_are_those_of_drift():
    model = sd.create_model("DiT-S/2-skip", **TINY)
    sampler = sd.Sampler(model, steps=STEPS, method="ddim", guidance=2.0, cache="none")
    given = random_params(model), sample_keys(jax.random.key(0), 0, 2), np.array([0, 2])
    found = measure_similarity(sampler, given[0], [given[1:]])
    drift = measure_drift(sampler, *given, lags=1, watch=watching_stages)
    for stage in range(4):
        wanted = drift.changes(str(stage))
        np.testing.assert_allclose(found.relative[1:, stage], wanted[1:], rtol=1e-4)
    assert (np.abs(found.cosine[1:]) <= 1 + 1e-6).all()


def test_a_cached_sampler_is_refused():
    model = sd.create_model("DiT-S/2-skip", **TINY)
    keys = sample_keys(jax.random.key(0), 0, 1)
    with pytest.raises(ValueError, match="found a sampler with a cache"):
        measure_similarity(sd.Sampler(model, cache="N2"), {}, [(keys, np.array([0]))])
