"""Intervals against the known error of a mean, and how often they hold the truth."""

import numpy as np
import pytest

from skipdit_jax.evaluation.distances import frechet_distance, frechet_of_features
from skipdit_jax.evaluation.features import FEW, few_samples
from skipdit_jax.evaluation.intervals import FRECHET_RESAMPLES, resampled
from skipdit_jax.evaluation.moments import fit_gaussian


def test_error_of_a_mean():
    x = np.random.default_rng(0).normal(3, 2, size=400)
    found = resampled(np.mean, x, resamples=2000)
    assert found.deviation == pytest.approx(x.std() / 20, rel=0.1)
    assert found.high - x.mean() == pytest.approx(x.mean() - found.low)
    assert found.high - x.mean() == pytest.approx(1.96 * found.deviation, rel=0.01)


def test_as_many_intervals_hold_the_truth_as_they_say():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(300):
        found = resampled(np.mean, rng.normal(size=50), resamples=20, level=0.9)
        hits += found.low <= 0 <= found.high
    assert 0.84 < hits / 300 < 0.95


def test_the_distance_between_sets_of_that_size_lies_inside():
    """Quantiles of the resamples would not hold even the number itself: they are all larger."""
    rng = np.random.default_rng(2)
    reference = fit_gaussian(rng.normal(size=(5000, 20)))

    def distance(x):
        return frechet_distance(*fit_gaussian(x), *reference)

    x = rng.normal(size=(300, 20))
    typical = np.mean([distance(rng.normal(size=(300, 20))) for _ in range(50)])
    found = resampled(distance, x, FRECHET_RESAMPLES)
    assert found.low < typical < found.high
    resamples = [distance(x[rng.integers(300, size=300)]) for _ in range(20)]
    assert min(resamples) > distance(x)


def test_same_seed_same_interval():
    x = np.random.default_rng(3).normal(size=(40, 3))
    halves = lambda z: frechet_of_features(z, x + 1)  # noqa: E731
    assert resampled(halves, x, 5) == resampled(halves, x, 5)
    assert resampled(halves, x, 5) != resampled(halves, x, 5, seed=1)


def test_flags_of_precision():
    flags = np.arange(100) < 70
    assert resampled(np.mean, flags).deviation == pytest.approx((0.7 * 0.3 / 100) ** 0.5, rel=0.1)


def test_a_constant_has_no_width():
    assert resampled(np.mean, np.ones(9)) == (1.0, 1.0, 0.0)


def test_refusals():
    x = np.ones(5)
    with pytest.raises(ValueError, match="found 1 samples, 1000 resamples, wanted 2 or more"):
        resampled(np.mean, x[:1])
    with pytest.raises(ValueError, match="found 5 samples, 1 resamples"):
        resampled(np.mean, x, resamples=1)
    with pytest.raises(ValueError, match="found level 95"):
        resampled(np.mean, x, level=95.0)
    with pytest.raises(ValueError, match="found nan"):
        resampled(np.mean, x * np.nan)


def test_few_samples():
    assert few_samples(FEW) is None
    line = few_samples(2000)
    assert line.startswith("2,000 samples, fewer than 10,000: ")
    assert "\n" not in line
