"""SmoothCache's rule: gaps as long as the largest lag allows, the last step, thresholds."""

import jax
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.calibration import smooth
from skipdit_jax.calibration.drift import Drift, measure_drift
from skipdit_jax.pipeline import sample_keys
from tests.networks import random_params

NEVER, ALWAYS = -1.0, np.inf
GROWING = np.array([[0.1, 0.2, 0.3]] * 5 + [[0.1, 0.2, np.nan], [0.1] + [np.nan] * 2, [np.nan] * 3])
TINY = {"depth": 3, "hidden_size": 16, "num_heads": 2, "input_size": 4, "num_classes": 3}


@pytest.mark.parametrize(
    ("threshold", "computed"),
    [
        (NEVER, [1, 1, 1, 1, 1, 1, 1, 1]),
        (0.15, [1, 0, 1, 0, 1, 0, 1, 1]),
        (0.25, [1, 0, 0, 1, 0, 0, 1, 1]),
        (ALWAYS, [1, 0, 0, 0, 1, 0, 0, 1]),
    ],
)
def test_a_gap_is_the_largest_lag_below_the_threshold(threshold, computed):
    assert smooth.schedule(GROWING, threshold) == computed


def test_one_lag_is_looked_at_not_those_below_it():
    errors = np.array([[0.9, 0.1], [0.9, 0.9], [0.9, np.nan], [np.nan, np.nan]])
    assert smooth.schedule(errors, 0.5) == [1, 0, 0, 1]


def test_the_lowest_threshold_that_saves_enough():
    errors = {"attn": GROWING, "mlp": GROWING + 0.1}

    def saved(masks):
        return 16 / sum(map(sum, masks.values()))

    found = smooth.threshold_for(errors, saved, 1.4)
    assert saved(smooth.masks(errors, found)) >= 1.4
    assert saved(smooth.masks(errors, (1 - 1e-6) * found)) < 1.4
    with pytest.raises(ValueError, match="found a speedup of 9, wanted 1 to"):
        smooth.threshold_for(errors, saved, 9.0)


def test_kinds_are_means_over_layers():
    part = {"attn-0": np.ones((3, 1)), "attn-1": 3 * np.ones((3, 1)), "mlp-0": np.ones((3, 1))}
    found = smooth.kind_errors(Drift(part, {name: np.full(3, 2.0) for name in part}))
    assert {kind: errors[:, 0].tolist()[:2] for kind, errors in found.items()} == {
        "attn": [1.0, 1.0],
        "mlp": [0.5, 0.5],
    }


def test_batches_add_up():
    model = sd.create_model("DiT-S/2", **TINY)
    params, keys = random_params(model), sample_keys(jax.random.key(0), 0, 4)
    sampler = sd.Sampler(model, steps=6, method="ddim", cache="none")
    labels = np.arange(4, dtype=np.int32) % 3
    whole = measure_drift(sampler, params, keys, labels, lags=2)
    halves = [
        measure_drift(sampler, params, keys[rows], labels[rows], lags=2)
        for rows in (slice(0, 2), slice(2, 4))
    ]
    assert set(whole.part) == {f"{kind}-{stage}" for kind in ("attn", "mlp") for stage in range(3)}
    for name in whole.part:
        np.testing.assert_allclose(
            (halves[0] + halves[1]).errors(name), whole.errors(name), rtol=1e-5
        )
        assert not whole.part[name][0].any()
        assert (whole.errors(name)[:-1, 0] > 0).all()
