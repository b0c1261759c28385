"""Two processes on this machine, weights split between them: one run, equal to one process.

One device each: with two, XLA's collectives between processes on CPU (gloo) hang on this machine.
"""

import json

import numpy as np
import pytest

from tests.distributed.processes import finish, free_port, run_module, start

RELATIVE = 1e-5  # sums in another order


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two") / "checkpoints"
    address = f"localhost:{free_port()}"
    module = "tests.distributed.two"
    printed = finish([start(module, address, n, folder, devices=1) for n in range(2)])
    assert [text.count("only process 0") for text in printed] == [1, 0]
    return [
        json.loads(next(line for line in text.splitlines() if line.startswith("{")))
        for text in printed
    ]


def test_both_see_all_devices_and_feed_their_own_rows(found):
    assert [one["main"] for one in found] == [True, False]
    assert [one["devices"] for one in found] == [[2, 1], [2, 1]]
    assert found[0]["rows"] + found[1]["rows"] == list(range(16))


def test_ten_steps_are_those_of_one_process(found):
    alone = json.loads(run_module("tests.distributed.alone"))
    assert len(alone) == 10
    for one in found:
        np.testing.assert_allclose(one["losses"], alone, rtol=RELATIVE)
    assert found[0]["losses"] == found[1]["losses"]


def test_a_checkpoint_of_both_is_read_by_both(found):
    for one in found:
        assert one["again"] == one["losses"][5:]
