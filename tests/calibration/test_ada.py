"""A planted codebook comes back from the steps that it allows."""

import numpy as np

from skipdit_jax.calibration import ada
from skipdit_jax.calibration.drift import RESIDUAL, Drift

PLANTED = ((0.1, 6), (0.2, 5), (0.3, 3), (1.0, 1))


def rate_of(change, codebook):
    return next((rate for bound, rate in codebook[:-1] if change < bound), codebook[-1][1])


def test_a_planted_codebook_comes_back():
    changes = np.random.default_rng(0).uniform(0, 0.5, 4000)
    rates = np.array([rate_of(change, PLANTED) for change in changes])
    found = ada.codebook(changes, rates)
    allowed = [rate_of(change, found) for change in changes]
    assert allowed == rates.tolist()
    np.testing.assert_allclose(found, PLANTED, atol=2e-3)


def test_a_larger_change_allows_no_more():
    found = ada.codebook(np.array([0.1, 0.2, 0.3, 0.4]), np.array([2, 6, 1, 3]))
    bounds, rates = zip(*found, strict=True)
    assert list(bounds) == sorted(bounds)
    assert list(rates) == sorted(rates, reverse=True)
    assert rate_of(0.1, found) == rate_of(0.2, found) == 4  # the mean of 2 and 6
    assert rate_of(0.3, found) == rate_of(0.4, found) == 2


def test_where_nothing_may_be_reused_every_step_is_computed():
    assert ada.codebook(np.array([0.1, 0.2]), np.array([1, 1])) == ((1.0, 1),)


def test_a_rate_reuses_as_many_steps_as_all_stay_below_the_limit():
    """v_i = i: relative to the later value i + d, its error behind d steps is d / (i + d)."""
    steps, lags = 12, 5
    step, lag = np.arange(steps)[:, None], np.arange(1, lags + 1)[None]
    part = np.where(lag <= step, lag, 0).astype(np.float32)
    whole = np.maximum(np.arange(steps), 1e-6).astype(np.float32)
    one = Drift({RESIDUAL: part, "update-1": part}, {RESIDUAL: whole, "update-1": whole})
    changes, rates = ada.pairs_of([one, one], limit=0.45)
    known = range(1, steps - lags)
    expected = [1 + sum(d / (i + d) <= 0.45 for d in range(1, lags + 1)) for i in known]
    assert rates.tolist() == 2 * expected
    before = np.array([max(i - 1, 1e-6) for i in known])
    np.testing.assert_allclose(changes[: len(known)], 1 / before, rtol=1e-5)
