"""Closed forms, symmetries and limits of the Fréchet distance."""

import numpy as np
import pytest
import scipy.linalg

from skipdit_jax.evaluation.distances import (
    frechet_between,
    frechet_distance,
    frechet_of_features,
    frechet_of_videos,
    frechet_to,
)
from skipdit_jax.evaluation.moments import BLOCK, FeatureStatistics, GaussianStream, fit_gaussian


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


def streamed(x, *cuts):
    stream = GaussianStream()
    for part in np.split(x, cuts):
        stream.add(part)
    assert stream.count == len(x)
    return stream.fit()


def test_batches_of_any_size_give_the_same_bits():
    x = np.random.default_rng(12).normal(size=(2 * BLOCK + 300, 5)).astype(np.float32)
    whole = streamed(x)
    for cuts in [range(7, len(x), 7), [0, 1, 2, BLOCK, BLOCK], [len(x) - 1]]:
        for got, want in zip(streamed(x, *cuts), whole, strict=True):
            np.testing.assert_array_equal(got, want)
    np.testing.assert_allclose(whole.mean, x.mean(axis=0, dtype=np.float64), rtol=1e-10, atol=1e-15)
    np.testing.assert_allclose(whole.covariance, np.cov(x.T.astype(np.float64)), atol=1e-13)


def test_order_of_the_rows_does_not_matter():
    rng = np.random.default_rng(13)
    x, y = rng.normal(size=(3 * BLOCK, 6)), rng.normal(size=(BLOCK + 1, 6)) + 0.3
    one = frechet_of_features(x, y)
    assert frechet_of_features(rng.permutation(x), rng.permutation(y)) == pytest.approx(
        one, abs=1e-10
    )


def test_a_large_mean_costs_no_digits_of_the_covariance():
    x = np.random.default_rng(14).normal(size=(3 * BLOCK, 2))
    np.testing.assert_allclose(
        streamed(x + 1e7).covariance, streamed(x).covariance, rtol=1e-7, atol=1e-7
    )


def test_a_stream_can_be_asked_in_between():
    x = np.random.default_rng(15).normal(size=(BLOCK + 50, 3))
    stream = GaussianStream()
    stream.add(x[:20])
    np.testing.assert_array_equal(stream.fit().covariance, fit_gaussian(x[:20]).covariance)
    stream.add(x[20:])
    np.testing.assert_array_equal(stream.fit().covariance, fit_gaussian(x).covariance)


def test_a_refused_batch_leaves_the_stream_as_it_was():
    x = np.random.default_rng(16).normal(size=(30, 3))
    stream = GaussianStream()
    stream.add(x)
    for broken in (np.full((4, 3), np.nan), np.zeros((4, 2))):
        with pytest.raises(ValueError, match="GaussianStream: found"):
            stream.add(broken)
    np.testing.assert_array_equal(stream.fit().covariance, fit_gaussian(x).covariance)


def test_more_real_features_are_nearer():
    rng = np.random.default_rng(17)
    real = rng.normal(size=(400, 8))
    worse = [
        frechet_of_features(real, rng.normal(size=(400, 8)) * scale) for scale in (1, 0.8, 0.5)
    ]
    assert worse == sorted(worse)


@pytest.mark.parametrize(("rank", "limit"), [(None, 1e-9), (5, 1e-6)])
def test_to_one_reference(rank, limit):
    reference, *others = (FeatureStatistics(*gaussian(seed, 20, rank)) for seed in range(20, 24))
    distance = frechet_to(reference)
    for other in (*others, reference):
        scale = np.trace(other.covariance)
        assert distance(other) == pytest.approx(
            frechet_between(reference, other), abs=limit * scale
        )
    with pytest.raises(ValueError, match="frechet_to: found widths 20 and 3"):
        distance(FeatureStatistics(*gaussian(0, 3)))


def test_of_videos():
    x = np.random.default_rng(18).normal(size=(9, 4))
    assert frechet_of_videos(x[:4], x[4:]) == frechet_of_features(x[:4], x[4:])
    assert frechet_of_videos(x[:1], x[1:2]) == pytest.approx(((x[0] - x[1]) ** 2).sum(), rel=1e-12)
    mean = x[1:].mean(axis=0)
    assert frechet_of_videos(x[1:], x[:1]) == pytest.approx(((x[0] - mean) ** 2).sum(), rel=1e-12)


def test_refusals():
    with pytest.raises(ValueError, match="found 1 samples, wanted 2"):
        streamed(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="frechet_between: found widths 3 and 2"):
        frechet_between(streamed(np.zeros((4, 3))), streamed(np.zeros((4, 2))))
    with pytest.raises(ValueError, match=r"frechet_of_videos: found shape \(0, 2\)"):
        frechet_of_videos(np.zeros((0, 2)), np.zeros((1, 2)))
    with pytest.raises(ValueError, match=r"found shape \(1, 3\), wanted \[N,D\] with N >= 2"):
        fit_gaussian(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="NaN or infinite"):
        fit_gaussian(np.array([[0.0], [np.nan]]))
    with pytest.raises(ValueError, match="widths 3 and 2"):
        frechet_of_features(np.zeros((4, 3)), np.zeros((4, 2)))
