"""Features on 8 virtual devices: rows are shared evenly, and come out as on one device."""

import json

import numpy as np

from skipdit_jax.evaluation.gathering import gather
from skipdit_jax.evaluation.sets import HeldSet
from tests.distributed.processes import run_module
from tests.evaluation import edges


def test_eight_devices_give_the_features_of_one():
    found = json.loads(run_module("tests.distributed.extracting", devices=8))
    assert found["batches"] == [8, 16]  # 3 is not shared evenly
    assert found["shared"] == [[1]] * 3 + [[2]] * 2
    wanted = gather(HeldSet("samples", edges.pictures(21)), edges.Counting())
    for one in found["features"]:
        for name, rows in wanted.items():
            far = np.abs(np.array(one[name], np.float32) - rows).max()
            assert far <= 1e-6 * np.abs(rows).max(), name
