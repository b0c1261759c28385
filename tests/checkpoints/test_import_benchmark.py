"""The benchmark of imports runs, and its figures say that only the averaged weights are read."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import importing, training_file
from skipdit_jax.registry import create_model
from skipdit_jax.weights import open_known

ROOT = Path(__file__).parents[2]


BOTH_WAYS = ("load", "native, bfloat16")  # reads into memory, and from file to file


@pytest.fixture(
    scope="module",
    params=[BOTH_WAYS, pytest.param(tuple(importing.CASES), marks=pytest.mark.slow)],
    ids=["two cases", "all cases"],
)
def quick(request, tmp_path_factory):
    """(what it printed, what it wrote)."""
    folder = tmp_path_factory.mktemp("benchmark")
    command = [sys.executable, "-m", "benchmarks.importing", "--quick", "--dir", str(folder)]
    command += ["--json", str(folder / "figures.json"), "--cases", *request.param]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert [path.name for path in folder.iterdir()] == ["figures.json"]
    return run.stdout, json.loads((folder / "figures.json").read_text())


def test_every_case_has_its_rows(quick):
    printed, figures = quick
    assert printed.count("\n## ") == 1
    assert tuple(row["what"] for row in figures["rows"]) in (BOTH_WAYS, tuple(importing.CASES))


def test_the_optimiser_is_not_read(quick):
    _, figures = quick
    whole = figures["machine"]["file GB"]
    for row in figures["rows"]:
        assert whole / 5 < row["read GB"] < whole / 2, row
        assert row["peak GB"] >= row["base GB"]
    written = {row["what"]: row["written GB"] for row in figures["rows"]}
    assert written["load"] == 0
    assert 0 < written["native, bfloat16"] < whole / 6
    if len(written) == len(importing.CASES):
        assert written["native, bfloat16"] < 0.6 * written["native"]
        assert written["native"] < written["torch"] < whole / 3


def test_the_file_is_laid_out_as_torch_saves_a_training_run(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed: nothing to read with")
    path = tmp_path / "x.pt"
    training_file.write_training_file(path, create_model(importing.MODEL, **importing.TINY))
    content = torch.load(path, weights_only=True)
    assert list(content) == ["model", "ema", "opt", "args"]
    handles = open_known(path).handles
    assert content["ema"].keys() == content["model"].keys() == handles.keys()
    # A parameter that is not trained, as the position table, has no state.
    assert len(content["opt"]["state"]) == len(handles) - 1
    moments = content["opt"]["state"][0]
    assert moments["exp_avg"].shape == moments["exp_avg_sq"].shape
    assert content["ema"]["blocks.0.attn.qkv.weight"].std() > 0.9
