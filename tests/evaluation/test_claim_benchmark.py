"""What the claim's benchmark makes of its figures: means over trainings, gains at equal cost."""

import types

import numpy as np
import pytest

from benchmarks import claim
from benchmarks.cache_settings import FEWER, UNCACHED, Way
from benchmarks.digit_models import Case


def way(method, name, target):
    return Way(method, Case(name, subject=None, changes={}), target)


def marks(gflop, decibel, **more):
    cost = {"computed": 1.0, "reused": 1.0, "gflop": gflop, "ceiling": 1.0}
    return {"0": {**cost, "PSNR dB": decibel, "SSIM": 0.5, "Fréchet": 1.0, "asked %": 50.0, **more}}


def job(cached, setting="N2"):
    """A training whose runs of fewer steps lose 10 dB for each halving, by FLOPs and by time."""
    full = marks(8.0, 0.0)
    del full["0"]["PSNR dB"], full["0"]["SSIM"]
    ways = [
        way(UNCACHED, "50 steps", 1.0),
        way("Skip-Cache", setting, 2.0),
        way(FEWER, "25 steps", 2.0),
        way(FEWER, "12 steps", 4.0),
    ]
    record = {
        "seconds": {
            "50 steps": [8.0],
            setting: [2.0, 4.0, 4.0],
            "25 steps": [4.0],
            "12 steps": [2.0],
        },
        "marks": {
            "50 steps": full,
            setting: marks(2.0 * np.sqrt(2), cached),
            "25 steps": marks(4.0, 40.0),
            "12 steps": marks(2.0, 30.0),
        },
    }
    return types.SimpleNamespace(ways=ways, record=record)


def rows(*jobs):
    found = claim.rows_of_kind(jobs, [0])
    return {row["method"]: row for row in found if row["method"] != FEWER} | {
        (row["method"], row["setting"]): row for row in found
    }


def test_gains_are_those_over_fewer_steps_of_equal_cost():
    row = rows(job(42.0))["Skip-Cache"]
    assert row["at equal FLOPs dB"] == (pytest.approx(42 - 35), 0)  # halfway between, by octaves
    assert row["at equal seconds dB"] == (pytest.approx(42 - 40), 0)
    assert row["speedup"] == 2.0
    assert row["ceiling"] == pytest.approx(2 * np.sqrt(2))


def test_trainings_of_a_kind_are_one_row_whatever_their_settings_are_called():
    found = rows(job(42.0), job(46.0, setting="searched, 20 steps"))
    assert found["Skip-Cache"]["PSNR dB"] == (44.0, pytest.approx(np.std([42, 46], ddof=1)))
    assert found["Skip-Cache"]["setting"] == "N2; searched, 20 steps"
    assert found[FEWER, "25 steps"]["PSNR dB"] == (40.0, 0.0)
    assert "PSNR dB" not in found[UNCACHED]
    assert claim.cells(found[UNCACHED])[4] == ""


def test_beyond_the_runs_of_fewer_steps_there_is_no_gain():
    one = job(42.0)
    one.record["marks"]["N2"] = marks(1.0, 42.0)
    row = rows(one)["Skip-Cache"]
    assert "at equal FLOPs dB" not in row
    assert row["at equal seconds dB"][0] == pytest.approx(2)
