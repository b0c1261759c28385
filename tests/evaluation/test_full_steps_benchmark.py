"""The benchmark of searched lists runs, and its even list is Skip-Cache's own interval."""

import json

import numpy as np
import pytest

from benchmarks import full_steps
from skipdit_jax.calibration.full_steps import evenly
from tests.evaluation.test_quality_benchmark import save

STEPS = 7


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Of a tiny model, N = 3 alone."""
    folder = tmp_path_factory.mktemp("full_steps")
    model = save(folder / "skip.safetensors", "DiT-S/2-skip")
    argv = ["--models", "digits", "--digits", model, "--samples", "4", "--count", "2"]
    argv += ["--seeds", "0", "--steps", str(STEPS), "--every", "3"]
    full_steps.main([*argv, "--json", str(folder / "rows.json")])
    return json.loads((folder / "rows.json").read_text())["tables"]["digits"]


def test_all_lists_compute_as_many_steps(rows):
    assert [row["list"] for row in rows] == ["even", "searched", "cheapest gaps", "minimax"]
    assert {row["computed"] for row in rows} == {f"3 of {STEPS}"}
    assert all(len(row["steps"].split()) == 3 for row in rows)
    assert rows[0]["steps"] == "0 3 6"
    assert rows[0]["gain dB"] == 0.0


def test_none_is_foretold_to_be_nearer_than_the_searched_one(rows):
    assert max(rows, key=lambda row: row["foretold dB"])["list"] == "searched"


@pytest.mark.parametrize("full", range(1, 12))
def test_even_lists_have_as_many_steps_as_were_asked_for(full):
    found = evenly(11, full)
    assert len(found) == full
    assert found[0] == 0
    gaps = np.diff((*found, 11))
    assert gaps.max() - gaps.min() <= 1
