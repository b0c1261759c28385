"""The training step compiled for an H200, without one: `pytest -m h200` (CONTRIBUTING.md)."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import h200

pytestmark = [
    pytest.mark.h200,
    pytest.mark.skipif(not h200.available(), reason=f"needs {h200.INSTALL}"),
]
ROOT = Path(__file__).parents[2]
BLOCKS, BATCH, WIDTH = 12, 8, 384
CALL = re.compile(r'custom_call_target="__cudnn\$(fmhaSoftmax(?:Backward)?)"')
CONCATENATION = re.compile(r"= \w+\[([\d,]*)\]\S* concatenate\(")


def compiled(folder, remat):
    """(figures, text of the program)."""
    text = folder / f"{remat}.txt"
    flags = ["--h200", "--model", "DiT-S/2-skip", "--attention", "cudnn", "--remat", remat]
    command = [sys.executable, "-m", "benchmarks.training_step", *flags]
    command += ["--batch", str(BATCH), "--hlo", str(text)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1]), text.read_text()


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hlo")
    return {remat: compiled(folder, remat) for remat in ("none", "dots", "blocks")}


@pytest.mark.parametrize(("remat", "forward"), [("none", 1), ("blocks", 2)])
def test_attention_is_one_call_per_block_and_pass(programs, remat, forward):
    calls = CALL.findall(programs[remat][1])
    assert calls.count("fmhaSoftmax") == forward * BLOCKS
    assert calls.count("fmhaSoftmaxBackward") == BLOCKS


@pytest.mark.parametrize("remat", ["none", "dots", "blocks"])
def test_no_weights_are_joined(programs, remat):
    """Skips and modulation join rows of the batch; what has no rows is smaller than any weight."""
    shapes = [tuple(map(int, s.split(","))) for s in CONCATENATION.findall(programs[remat][1])]
    assert shapes
    for shape in shapes:
        assert shape[0] == BATCH or max(shape) < WIDTH, shape


def test_remat_saves_memory(programs):
    temp = {remat: figures["temp_bytes"] for remat, (figures, _) in programs.items()}
    assert temp["blocks"] < temp["dots"] < temp["none"]
