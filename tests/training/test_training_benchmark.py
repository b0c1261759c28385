"""The benchmark of training runs on a machine without a GPU, and its columns belong together."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import training_data

ROOT = Path(__file__).parents[2]
SECTIONS = ("compile", "step", "wait", "data")


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """(what it printed, what it wrote)."""
    file = tmp_path_factory.mktemp("benchmark") / "figures.json"
    command = [sys.executable, "-m", "benchmarks.training", "--quick", "--json", str(file)]
    command += ["--sections", *SECTIONS]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout, json.loads(file.read_text())


def test_every_section_prints_its_table(quick):
    printed, figures = quick
    assert set(figures) == {"machine", *SECTIONS}
    assert printed.count("\n## ") == len(SECTIONS)
    assert "nothing measured" not in printed


def test_compilation_is_measured_without_running(quick):
    (row,) = quick[1]["compile"]
    parts = row["trace + lower s"] + row["compile s"]
    assert row["trace to compiled s"] == pytest.approx(parts)
    assert row["state and batch GiB"] > 0


def test_rates_of_a_step_agree_with_each_other(quick):
    rows = quick[1]["step"]
    assert [row["trial"] for row in rows] == ["plain", "latency hiding"]
    for row in rows:
        assert row["images/s"] * row["ms a step"] == pytest.approx(1000 * row["batch"])
    # The same model: the same FLOPs for every image, whatever the trial.
    plain, other = (row["TFLOP/s"] / row["images/s"] for row in rows)
    assert plain == pytest.approx(other)


def test_a_paced_loop_is_never_faster_than_its_pace(quick):
    _, figures = quick
    assert [r["source"] for r in figures["wait"]] == [r["source"] for r in figures["data"]]
    for row in figures["wait"]:
        assert 0 < row["images/s"] <= training_data.TARGET_RATE
        assert 0 <= row["waits for data %"] < 100
