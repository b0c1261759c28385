"""The kernel distance against double loops, closed forms, and its freedom of bias."""

import numpy as np
import pytest

from skipdit_jax.evaluation.kernel_distance import kernel_distance, squared_mmd


def double_loop(x, y):
    def kernel(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    def pairs(z):
        found = [kernel(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]
        return sum(found) / len(found)

    return pairs(x) + pairs(y) - 2 * np.mean([kernel(a, b) for a in x for b in y])


def test_agrees_with_a_double_loop():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 4)), rng.normal(size=(5, 4)) + 0.5
    assert squared_mmd(x, y) == pytest.approx(double_loop(x, y), rel=1e-12)


def test_points_by_hand():
    # all x at 0, all y at 1, D = 1: k is 1 among x and between, (1 + 1)^3 among y
    assert squared_mmd(np.zeros((3, 1)), np.ones((2, 1))) == pytest.approx(1 + 8 - 2)


def test_right_on_average_for_sets_of_one_distribution():
    rng = np.random.default_rng(1)
    found = [squared_mmd(*rng.normal(size=(2, 10, 3))) for _ in range(4000)]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 4 * error
    assert min(found) < 0
    # that of all pairs, i = j too, would be off by 2/10 of the mean of k(x, x) - k(x, y)
    assert 50 * error < 2 / 10 * ((1 + 1) ** 3 - 1 - 1)


def test_right_on_average_for_a_known_distance():
    # D = 1, k = 1 + 3 xy + 3 x²y² + x³y³: MMD² = 3 Δ1² + 3 Δ2² + Δ3², Δ of the raw moments; of
    # N(0, 1) and N(m, 1): m, m², m³ + 3m
    m = 0.5
    want = 3 * m**2 + 3 * m**4 + (m**3 + 3 * m) ** 2
    rng = np.random.default_rng(2)
    found = [
        squared_mmd(rng.normal(size=(20, 1)), rng.normal(m, 1, size=(30, 1))) for _ in range(4000)
    ]
    assert np.mean(found) == pytest.approx(want, abs=4 * np.std(found) / np.sqrt(len(found)))


def test_subsets_of_everything_are_the_whole():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 12, 3))
    mean, std = kernel_distance(x, y, subsets=5, size=12)
    assert mean == pytest.approx(squared_mmd(x, y), rel=1e-9)
    assert std < 1e-12


def test_subsets_surround_the_whole_and_same_seeds_agree():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(200, 3)), rng.normal(size=(300, 3)) + 0.4
    found = kernel_distance(x, y, subsets=400, size=50)
    assert found.mean == pytest.approx(squared_mmd(x, y), abs=5 * found.std / 20)
    assert kernel_distance(x, y, subsets=400, size=50) == found
    assert kernel_distance(x, y, subsets=400, size=50, seed=1) != found


def test_symmetric_and_independent_of_order():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(30, 4)).astype(np.float32), rng.normal(size=(20, 4)).astype(np.float32)
    want = squared_mmd(x, y)
    assert squared_mmd(y, x) == pytest.approx(want, rel=1e-12)
    assert squared_mmd(rng.permutation(x), rng.permutation(y)) == pytest.approx(want, abs=1e-12)


def test_refusals():
    x = np.zeros((10, 3))
    with pytest.raises(ValueError, match=r"found shape \(10, 3\), wanted \[N,D\] with N >= 1000"):
        kernel_distance(x, x)
    with pytest.raises(ValueError, match="found 0 subsets of 5"):
        kernel_distance(x, x, subsets=0, size=5)
    with pytest.raises(ValueError, match="found widths 3 and 2"):
        kernel_distance(x, x[:, :2], size=5)
    with pytest.raises(ValueError, match="squared_mmd: found features that are NaN"):
        squared_mmd(x, np.full((3, 3), np.nan))
