import itertools
import json

import numpy as np
import pytest

from skipdit_jax.data.loader import ArraySource, make_batches

COUNT, BATCH = 10, 4


def numbered(count=COUNT):
    return ArraySource(np.zeros((count, 1, 1, 1), np.float32), np.arange(count, dtype=np.int32))


def order(seed, batches):
    taken = itertools.islice(make_batches(numbered(), batch_size=BATCH, seed=seed), batches)
    return np.concatenate([batch["label"] for batch in taken]).tolist()


def test_every_epoch_has_every_example_once_in_a_new_order():
    seen = order(seed=0, batches=5)
    first, second = seen[:COUNT], seen[COUNT:]
    assert sorted(first) == sorted(second) == list(range(COUNT))
    assert first != second != list(range(COUNT))


def test_order_comes_from_the_seed():
    assert order(0, 3) == order(0, 3) != order(1, 3)


def test_batches_have_shapes_and_types_of_the_source():
    batch = next(make_batches(numbered(), batch_size=BATCH, seed=0))
    assert batch["image"].shape == (BATCH, 1, 1, 1)
    assert (batch["image"].dtype, batch["label"].dtype) == (np.float32, np.int32)


@pytest.mark.parametrize("taken", [0, 1, 3, 7])
def test_position_goes_through_json_and_back(taken):
    batches = make_batches(numbered(), batch_size=BATCH, seed=3)
    for _ in range(taken):
        next(batches)
    state = json.loads(json.dumps(batches.get_state()))
    want = [next(batches)["label"].tolist() for _ in range(4)]
    fresh = make_batches(numbered(), batch_size=BATCH, seed=3)
    fresh.set_state(state)
    assert [next(fresh)["label"].tolist() for _ in range(4)] == want


def test_small_sets_fill_large_batches():
    batch = next(make_batches(numbered(3), batch_size=8, seed=0))
    assert batch["label"].shape == (8,)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="empty"):
        make_batches(numbered(0), batch_size=1, seed=0)
    with pytest.raises(ValueError, match="batch_size: got 0"):
        make_batches(numbered(), batch_size=0, seed=0)
    with pytest.raises(ValueError, match="2 images but 3 labels"):
        ArraySource(np.zeros((2, 1, 1, 1), np.float32), np.zeros(3, np.int32))
