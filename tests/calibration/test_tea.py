"""A planted polynomial comes back; thresholds save what was asked of the steps they were given."""

import numpy as np
import pytest

from skipdit_jax.calibration import tea


def pairs(polynomial, noise, batches=4, steps=40):
    rng = np.random.default_rng(0)
    for _ in range(batches):
        x = rng.uniform(0.02, 0.5, steps)
        yield x, np.polyval(polynomial, x) + noise * rng.normal(size=steps)


@pytest.mark.parametrize(
    "polynomial", [(2.0, 0.1), (3.0, -1.0, 0.2), (40.0, -20.0, 3.0, 0.1), (90, -70, 15, 0.5, 0.1)]
)
def test_a_planted_polynomial_comes_back_in_its_degree(polynomial):
    fit = tea.fitted(list(pairs(polynomial, noise=1e-7)))
    assert len(fit.polynomial) == len(polynomial)
    np.testing.assert_allclose(fit.polynomial, polynomial, rtol=1e-3)
    assert fit.left < 1e-4


def test_noise_takes_no_higher_degree_than_it_needs():
    fit = tea.fitted(list(pairs((1.0, 0.2), noise=0.2, batches=2, steps=12)))
    assert len(fit.polynomial) == 2


def test_too_few_steps_are_told():
    with pytest.raises(ValueError, match="found 8 pairs of changes, wanted 9"):
        tea.fitted([(np.ones(9), np.ones(9))])


@pytest.mark.parametrize("wanted", [1.5, 2.0, 3.0])
def test_a_threshold_saves_as_much_as_was_asked(wanted):
    changes = [np.append(0.0, np.random.default_rng(s).uniform(0.1, 0.4, 49)) for s in range(3)]
    threshold = tea.threshold_for(changes, 10.0, 1.0, wanted)

    def saved(threshold):
        full = np.stack([tea.computed(one, threshold) for one in changes])
        return full.size * 10 / np.where(full, 10, 1).sum()

    assert saved(threshold) >= wanted
    assert saved(0.99 * threshold) < wanted * 1.05
    with pytest.raises(ValueError, match="found a speedup of 20, wanted 1 to"):
        tea.threshold_for(changes, 10.0, 1.0, 20.0)


def test_the_ends_are_computed_and_sums_begin_anew():
    assert tea.computed(np.array([9, 0.4, 0.4, 0.4, 0.1, 0.1]), 0.7).tolist() == [
        True,
        False,
        True,
        False,
        False,
        True,
    ]
