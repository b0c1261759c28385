import itertools
import json
import multiprocessing
import os
import signal
from unittest.mock import Mock

import grain
import numpy as np
import pytest
from absl import flags

from skipdit_jax.config import check_seed
from skipdit_jax.data import loader
from skipdit_jax.data.loader import ArraySource, Reading, make_batches
from skipdit_jax.data.sources import DataError

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


@pytest.mark.parametrize("seed", [2**32, -1])
def test_a_seed_that_would_wrap_is_refused(seed):
    with pytest.raises(ValueError, match=r"seed: found .*, wanted a whole number from 0 to 429"):
        make_batches(numbered(), batch_size=BATCH, seed=seed)
    make_batches(numbered(), batch_size=BATCH, seed=2**32 - 1)


@pytest.mark.parametrize("seed", [2**32, -1, 1.0, True, "1", None])
def test_what_is_no_seed_is_refused(seed):
    with pytest.raises(ValueError, match=r"^place: found "):
        check_seed(seed, "place")
    assert check_seed(np.uint32(7), "place") == 7


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
    with pytest.raises(ValueError, match="batch_size: found 0"):
        make_batches(numbered(), batch_size=0, seed=0)
    with pytest.raises(ValueError, match="2 images but 3 labels"):
        ArraySource(np.zeros((2, 1, 1, 1), np.float32), np.zeros(3, np.int32))


def labels(batches, count):
    return [next(batches)["label"].tolist() for _ in range(count)]


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_the_batches_of_one(processes):
    """Also across the ends of epochs, which 10 examples and batches of 8 do not meet."""
    whole = labels(make_batches(numbered(), batch_size=8, seed=5), 6)
    parts = [
        labels(
            make_batches(
                numbered(),
                batch_size=8 // processes,
                seed=5,
                process_index=index,
                process_count=processes,
            ),
            6,
        )
        for index in range(processes)
    ]
    assert np.concatenate(parts, axis=1).tolist() == whole


def test_a_run_continues_on_another_number_of_processes():
    one = make_batches(numbered(), batch_size=4, seed=5)
    labels(one, 3)
    second = make_batches(numbered(), batch_size=2, seed=5, process_index=1, process_count=2)
    second.set_state(one.get_state())
    assert labels(second, 4) == [batch[2:] for batch in labels(one, 4)]


def test_a_state_can_be_set_on_a_running_iterator():
    batches = make_batches(numbered(), batch_size=4, seed=5)
    start = batches.get_state()
    first = labels(batches, 3)
    batches.set_state(start)
    assert labels(batches, 3) == first


def test_a_state_of_grain_itself_is_a_position():
    batches = make_batches(numbered(), batch_size=4, seed=5)
    want = labels(batches, 3)[-1]
    fresh = make_batches(numbered(), batch_size=4, seed=5)
    fresh.set_state({"next_index": 2})
    assert labels(fresh, 1) == [want]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"batch_size": 8}, "global_batch was 4, is now 8"),
        ({"seed": 6}, "seed was 5, is now 6"),
        ({"shuffle": False}, "shuffle was True"),
        ({"source": numbered(11)}, "examples was 10, is now 11"),
    ],
)
def test_a_state_of_another_order_is_refused(options, named):
    wanted = {"source": numbered(), "batch_size": 4, "seed": 5}
    state = make_batches(**wanted).get_state()
    with pytest.raises(ValueError, match=named):
        make_batches(**wanted | options).set_state(state)
    with pytest.raises(ValueError, match="next_index is None"):
        make_batches(**wanted).set_state({"seed": 5})


class Failing:
    """Example 5 fails the first time."""

    def __init__(self):
        self.healthy = False

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        if index == 5 and not self.healthy:
            raise OSError("no such host")
        return {"image": np.zeros((1, 1, 1), np.float32), "label": np.int32(index)}


def test_an_error_loses_no_batch():
    source = Failing()
    batches = make_batches(source, batch_size=4, seed=0, shuffle=False)
    assert labels(batches, 1) == [[0, 1, 2, 3]]
    with pytest.raises(OSError, match="no such host"):
        next(batches)
    source.healthy = True
    assert labels(batches, 2) == [[4, 5, 6, 7], [8, 9, 0, 1]]


def test_a_closed_iterator_says_so():
    batches = make_batches(numbered(), batch_size=4, seed=0)
    next(batches)
    batches.close()
    batches.close()
    with pytest.raises(ValueError, match="closed"):
        next(batches)


def test_bad_processes_are_named():
    with pytest.raises(ValueError, match=r"process_index: found 2, wanted 0\.\.1"):
        make_batches(numbered(), batch_size=1, seed=0, process_index=2, process_count=2)


@pytest.mark.slow
def test_a_killed_worker_is_told_and_ctrl_c_is_not_for_workers():
    """Grain needs 15 s to start two."""
    flags.FLAGS.mark_as_parsed()
    reading = Reading(workers=2)
    batches = make_batches(numbered(), batch_size=BATCH, seed=0, reading=reading)
    next(batches)
    worker, other = multiprocessing.active_children()
    os.kill(other.pid, signal.SIGINT)
    for _ in range(20):
        next(batches)
    assert other.is_alive()
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(DataError, match=r"data.workers: Worker process was .* exit code -9: kil"):
        list(itertools.islice(batches, 100))
    batches.close()


def test_a_killed_worker_is_an_error_of_the_data():
    dead = Mock(spec=grain.DatasetIterator)
    dead.__next__ = Mock(
        side_effect=RuntimeError("Worker process was terminated unexpectedly with exit code -9. S")
    )
    with pytest.raises(DataError, match=r"^data.workers: Worker process was .* exit code -9: kil"):
        next(loader._Workers(dead))
