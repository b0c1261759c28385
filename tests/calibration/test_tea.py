"""A planted polynomial comes back, in the degree it has."""

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
