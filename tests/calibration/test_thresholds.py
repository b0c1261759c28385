"""Thresholds: the lowest that saves enough, by arithmetic and on samples."""

import jax
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.calibration.thresholds import by_trial, lowest
from skipdit_jax.pipeline import sample_keys
from tests.networks import random_params

TINY = {"depth": 3, "hidden_size": 16, "num_heads": 2, "input_size": 4, "num_classes": 3}


def test_the_lowest_of_a_staircase():
    """1 below 0.01, 2 below 0.3, then 5."""

    def saved(threshold):
        return 1.0 + (threshold >= 0.01) + 3 * (threshold >= 0.3)

    assert lowest(saved, 2.0, most=10.0) == pytest.approx(0.01, rel=1e-9)
    assert lowest(saved, 3.0, most=10.0) == pytest.approx(0.3, rel=1e-9)
    assert saved(lowest(saved, 3.0, most=10.0)) == 5
    assert saved(lowest(saved, 3.0, most=10.0, halvings=3)) == 5
    with pytest.raises(ValueError, match="found a speedup of 6, wanted 1 to 5"):
        lowest(saved, 6.0, most=10.0)


@pytest.mark.parametrize("method", ["first-block", "teacache", "easycache"])
def test_a_method_that_decides_saves_as_much_as_was_asked(method):
    model = sd.create_model("DiT-S/2", **TINY)
    params, keys, labels = random_params(model), sample_keys(jax.random.key(0), 0, 4), np.arange(4)

    def sampler_at(threshold):
        cache = f"{method}(threshold={threshold!r})"
        return sd.Sampler(model, steps=12, method="ddim", cache=cache, details=True)

    def saved(threshold):
        sampler = sampler_at(threshold)
        drawn = sampler(params, keys, labels % 3)
        return sampler.summary(len(keys), [drawn.kinds]).ceiling

    threshold, told = by_trial(sampler_at, params, keys, labels % 3, 1.3)
    assert told == saved(threshold) >= 1.3
    assert saved(0.99 * threshold) < 1.3
