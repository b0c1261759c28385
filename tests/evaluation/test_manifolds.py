"""Precision and recall against a double loop in float64, their limits, no trace of padding."""

import jax.numpy as jnp
import numpy as np
import pytest

from skipdit_jax.evaluation import manifolds, pairwise
from skipdit_jax.evaluation.manifolds import precision_recall, squared_radii


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """So that sets have several and the last is not full."""
    monkeypatch.setattr(pairwise, "BLOCK", 16)


def sets(seed, ours=41, real=35, width=6, shift=0.5):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(ours, width)) + shift, rng.normal(size=(real, width))


def away(a, b):
    return ((a[:, None] - b[None]) ** 2).sum(axis=-1)


def double_loop(x, y, k):
    radii = [np.sort(away(z, z), axis=1)[:, k] for z in (x, y)]
    between = away(x, y)
    return (between <= radii[1][None]).any(axis=1), (between <= radii[0][:, None]).any(axis=0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("sizes", [(41, 35), (16, 32), (5, 50), (17, 4)])
def test_agrees_with_a_double_loop(seed, k, sizes):
    x, y = sets(seed, *sizes)
    ours, real = double_loop(x, y, k)
    found = precision_recall(x, y, neighbours=k)
    np.testing.assert_array_equal(found.samples_inside, ours)
    np.testing.assert_array_equal(found.reference_inside, real)
    assert (found.precision, found.recall) == (ours.mean(), real.mean())


def test_radii():
    x, _ = sets(3)
    want = np.sort(away(x, x), axis=1)[:, 3]
    np.testing.assert_allclose(squared_radii(x), want, rtol=1e-5)
    np.testing.assert_allclose(squared_radii(x, half=True), want, rtol=2e-2)


def test_points_on_a_line_by_hand():
    # k = 1: the radii of 0, 1, 5 are 1, 1, 4; 9 lies on the edge of the ball of 5, 9.5 outside;
    # the radii of 9, 9.5, 20.5 are 0.5, 0.5, 11: no real one lies in them
    real, ours = np.array([[0.0], [1.0], [5.0]]), np.array([[9.0], [9.5], [20.5]])
    found = precision_recall(ours, real, neighbours=1)
    assert list(found.samples_inside) == [True, False, False]
    assert list(found.reference_inside) == [False] * 3
    np.testing.assert_array_equal(squared_radii(ours, neighbours=1), [0.25, 0.25, 121.0])


def test_a_set_against_itself_and_a_far_one():
    x, _ = sets(4)
    assert precision_recall(x, x)[:2] == (1.0, 1.0)
    assert precision_recall(x, x + 1e3)[:2] == (0.0, 0.0)


def test_few_modes_are_precise_and_recall_little():
    rng = np.random.default_rng(5)
    real = rng.normal(size=(60, 2)) + 50 * np.repeat([[0, 0], [0, 1], [1, 0]], 20, axis=0)
    one_mode = rng.normal(size=(40, 2)) * 0.5
    found = precision_recall(one_mode, real)
    assert found.precision > 0.9
    assert found.recall <= 1 / 3


@pytest.mark.parametrize("half", [False, True])
def test_order_and_exchange(half):
    x, y = sets(6)
    rng = np.random.default_rng(7)
    found = precision_recall(x, y, half=half)
    again = precision_recall(rng.permutation(x), rng.permutation(y), half=half)
    assert (again.precision, again.recall) == (found.precision, found.recall)
    exchanged = precision_recall(y, x, half=half)
    assert (exchanged.precision, exchanged.recall) == (found.recall, found.precision)


def test_the_size_of_a_block_does_not_matter(monkeypatch):
    x, y = sets(8)
    found = precision_recall(x, y)
    monkeypatch.setattr(pairwise, "BLOCK", 64)
    np.testing.assert_array_equal(precision_recall(x, y).samples_inside, found.samples_inside)


def test_a_common_shift_costs_no_digits():
    x, y = sets(9)
    found, moved = precision_recall(x, y), precision_recall(x + 1e4, y + 1e4)
    np.testing.assert_array_equal(moved.samples_inside, found.samples_inside)
    np.testing.assert_array_equal(moved.reference_inside, found.reference_inside)


def test_copies_have_balls_of_no_size_that_hold_copies_alone():
    x, y = (z.astype(np.float32) * 1.1 for z in sets(10, width=300))
    copied = np.repeat(y[:4], 5, axis=0)
    assert list(squared_radii(copied)) == [0.0] * 20
    found = precision_recall(np.concatenate([y[:4], x]), copied)
    assert list(found.samples_inside) == [True] * 4 + [False] * len(x)


def test_what_overflows_float16_is_measured_in_float32():
    x, y = (100 * z for z in sets(11))
    assert np.isfinite(squared_radii(x, half=True)).all()
    found, want = precision_recall(x, y, half=True), precision_recall(x, y)
    np.testing.assert_array_equal(found.samples_inside, want.samples_inside)


def test_rounding_to_float16_is_seen_where_distances_are_close():
    # k = 1: the ball of 0 reaches to 1, the sample is farther away by less than float16 tells
    real, ours = np.array([[0.0], [1.0], [50.0]]), np.array([[-1.0001], [-90.0], [-95.0]])
    assert not precision_recall(ours, real, neighbours=1).samples_inside[0]
    assert precision_recall(ours, real, neighbours=1, half=True).samples_inside[0]


def test_other_numbers_of_samples_compile_nothing():
    precision_recall(*sets(12, width=9))
    programs = manifolds._nearest, manifolds._within
    before = [program._cache_size() for program in programs]
    precision_recall(*sets(13, ours=100, real=7, width=9))
    assert [program._cache_size() for program in programs] == before


def test_takes_jax_bfloat16():
    x, y = (jnp.asarray(z, jnp.bfloat16) for z in sets(14))
    exact = [np.asarray(z).astype(np.float64) for z in (x, y)]
    assert precision_recall(x, y)[:2] == precision_recall(*exact)[:2]


def test_refusals():
    x, y = sets(15)
    with pytest.raises(ValueError, match=r"found shape \(3, 6\), wanted \[N,D\] with N >= 4"):
        precision_recall(x[:3], y)
    with pytest.raises(ValueError, match="precision_recall: found widths 6 and 5"):
        precision_recall(x, y[:, :5])
    with pytest.raises(ValueError, match="found 0 neighbours"):
        squared_radii(x, neighbours=0)
    with pytest.raises(ValueError, match="NaN or infinite"):
        precision_recall(x, np.where(y > 1, np.nan, y))
