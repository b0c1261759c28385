"""Features of rows: neither batches nor neighbours matter, and nothing is compiled twice."""

import numpy as np
import pytest

from skipdit_jax.evaluation.extraction import Extractor, batches_of
from tests.evaluation import edges
from tests.evaluation.edges import pictures

ROUNDING = 1e-6
COUNT = 13
NAMES = ("pool", "spatial", "logits")


def chunked(rows, *sizes):
    """Chunks of these sizes, over and over."""
    at, number = 0, 0
    while at < len(rows):
        size = sizes[number % len(sizes)]
        yield rows[at : at + size]
        at, number = at + size, number + 1


def features(rows, batch=8, sizes=(COUNT,)):
    parts = list(edges.Counting(batch=batch)(chunked(rows, *sizes)))
    return {name: np.concatenate([part[name] for part in parts]) for name in NAMES}


def same(found, wanted):
    """To a millionth of what a feature may be."""
    for name in NAMES:
        far = np.abs(found[name] - wanted[name]).max()
        assert far <= ROUNDING * np.abs(wanted[name]).max(), name


@pytest.fixture(scope="module")
def alone():
    """Every picture by itself."""
    return features(pictures(COUNT), batch=1, sizes=(1,))


@pytest.mark.parametrize("batch", [1, 4, 8, 13, 64])
def test_the_size_of_batches_changes_nothing(alone, batch):
    found = features(pictures(COUNT), batch)
    same(found, alone)


@pytest.mark.parametrize("sizes", [(1,), (3, 1), (5, 0, 2), (12,), (8, 8)])
def test_how_samples_come_changes_nothing(alone, sizes):
    found = features(pictures(COUNT), 4, sizes)
    same(found, alone)


def test_the_order_of_samples_is_that_of_features(alone):
    order = np.random.default_rng(1).permutation(COUNT)
    found = features(pictures(COUNT)[order], 4)
    same(found, {name: rows[order] for name, rows in alone.items()})


@pytest.mark.parametrize("count", [0, 1, 4, 5, 8])
@pytest.mark.parametrize("chunk", [1, 3, 9])
def test_batches_are_full_and_hold_every_row_once(count, chunk):
    rows = np.arange(count)[:, None]
    found = list(batches_of(chunked(rows, chunk), 4))
    assert all(len(part) == 4 for part, _ in found)
    assert [n for _, n in found] == [4] * (count // 4) + [count % 4] * (count % 4 > 0)
    kept = [part[:n] for part, n in found]
    np.testing.assert_array_equal(np.concatenate([rows[:0], *kept]), rows)


def test_rows_that_fill_up_are_real_ones_and_never_counted():
    """Zeros could be a place where a network is not finite."""
    [_, (last, count)] = batches_of([pictures(5)], 4)
    assert count == 1
    np.testing.assert_array_equal(last, np.repeat(pictures(5)[4:], 4, axis=0))
    assert [len(made["pool"]) for made in edges.Counting(batch=4)([pictures(5)])] == [4, 1]


def test_one_program_for_any_number_of_samples():
    traced = []

    def call(params, levels):
        traced.append(levels.shape)
        return edges.call(params, levels)

    extractor = Extractor(call, {"filters": edges.FILTERS}, 4, "edges")
    for count in (1, 3, 4, 9):
        assert sum(len(made["pool"]) for made in extractor([pictures(count)])) == count
    assert traced == [(4, 16, 20, 3)]


def test_no_samples_give_no_features():
    assert list(edges.Counting()([])) == []


def test_a_batch_of_none_is_refused():
    with pytest.raises(ValueError, match="found batch 0, wanted 1 or more"):
        edges.Counting(batch=0)
