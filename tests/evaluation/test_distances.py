"""Closed forms, symmetries and limits of the Fréchet distance."""

import numpy as np
import pytest
import scipy.linalg

from skipdit_jax.evaluation.distances import fit_gaussian, frechet_distance, frechet_of_features


def gaussian(seed, width, rank=None):
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(width, rank or width))
    return rng.normal(size=width), factor @ factor.T


def test_one_dimension():
    # N(1, 2^2) and N(4, 6^2): (1 - 4)^2 + (2 - 6)^2
    got = frechet_distance(np.array([1.0]), np.array([[4.0]]), np.array([4.0]), np.array([[36.0]]))
    assert got == pytest.approx(25.0, rel=1e-12)


def test_diagonal_covariances():
    sigma1, sigma2 = np.array([1.0, 2.0, 0.0]), np.array([3.0, 2.0, 0.5])
    shift = np.array([0.0, 1.0, -2.0])
    got = frechet_distance(np.zeros(3), np.diag(sigma1**2), shift, np.diag(sigma2**2))
    assert got == pytest.approx(5.0 + 4.0 + 0.25, rel=1e-12)


def test_a_rotation_of_both_changes_nothing():
    (m1, c1), (m2, c2) = gaussian(0, 5), gaussian(1, 5)
    q, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(5, 5)))
    turned = frechet_distance(q @ m1, q @ c1 @ q.T, q @ m2, q @ c2 @ q.T)
    assert turned == pytest.approx(frechet_distance(m1, c1, m2, c2), rel=1e-10)


def test_agrees_with_the_matrix_square_root_of_scipy():
    (m1, c1), (m2, c2) = gaussian(3, 6), gaussian(4, 6)
    root = scipy.linalg.sqrtm(c1 @ c2).real
    want = ((m1 - m2) ** 2).sum() + np.trace(c1 + c2 - 2 * root)
    assert frechet_distance(m1, c1, m2, c2) == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("rank", [None, 3])
def test_zero_for_equal_and_symmetric(rank):
    (m1, c1), (m2, c2) = gaussian(5, 20, rank), gaussian(6, 20, rank)
    scale = np.trace(c1)
    assert 0 <= frechet_distance(m1, c1, m1, c1) < 1e-7 * scale
    there, back = frechet_distance(m1, c1, m2, c2), frechet_distance(m2, c2, m1, c1)
    assert there == pytest.approx(back, rel=1e-10)
    assert there > 0


def test_square_root_of_it_is_a_metric():
    (m1, c1), (m2, c2), (m3, c3) = (gaussian(seed, 4) for seed in (7, 8, 9))
    straight = frechet_distance(m1, c1, m3, c3) ** 0.5
    around = frechet_distance(m1, c1, m2, c2) ** 0.5 + frechet_distance(m2, c2, m3, c3) ** 0.5
    assert straight <= around


def test_gaussian_of_three_points_by_hand():
    mean, covariance = fit_gaussian(np.array([[0.0, 0.0], [2.0, 0.0], [4.0, 3.0]]))
    np.testing.assert_allclose(mean, [2.0, 1.0])
    np.testing.assert_allclose(covariance, [[4.0, 3.0], [3.0, 3.0]])


def test_shifted_features():
    x = np.random.default_rng(10).normal(size=(50, 4)).astype(np.float32)
    assert frechet_of_features(x, x[::-1]) < 1e-10
    assert frechet_of_features(x, x + 2) == pytest.approx(4 * 2.0**2, rel=1e-5)


def test_samples_approach_the_closed_form():
    rng = np.random.default_rng(11)
    a, b = rng.normal(size=(20000, 2)), np.array([1.0, 0.0]) + 2 * rng.normal(size=(20000, 2))
    assert frechet_of_features(a, b) == pytest.approx(1 + 2 * 1.0, rel=0.05)


def test_refusals():
    with pytest.raises(ValueError, match=r"found shape \(1, 3\), wanted \[N,D\] with N >= 2"):
        fit_gaussian(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="NaN or infinite"):
        fit_gaussian(np.array([[0.0], [np.nan]]))
    with pytest.raises(ValueError, match="widths 3 and 2"):
        frechet_of_features(np.zeros((4, 3)), np.zeros((4, 2)))
