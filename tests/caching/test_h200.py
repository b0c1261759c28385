"""The compiled sampler on an H200, without one: run with `pytest -m h200` (CONTRIBUTING.md)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import h200
from tests.caching import hlo

pytestmark = [
    pytest.mark.h200,
    pytest.mark.skipif(
        not h200.available(),
        reason=f"needs the compiler for an H200: {h200.INSTALL}",
    ),
]
ROOT = Path(__file__).parents[2]
# (depth, width, tokens, branch) of the models compiled here.
SIZES = {"DiT-S/2-skip": (12, 384, 256, 1), "DiT-XL/2-skip": (28, 1152, 256, 4)}
# Matrix products (spec 1). A block: qkv, its output, two of the MLP, modulation; attention is one
# call apart. Around the blocks: patches, two for the timestep, the last layer's two.
PER_BLOCK, PER_FUSION, AROUND = 5, 1, 5
ROWS = 2  # one sample, doubled by guidance


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Compiles in processes of their own, each program once: (figures, program)."""
    done = {}

    def compile_once(model, *flags):
        if (model, flags) not in done:
            text = tmp_path_factory.mktemp("hlo") / "program.txt"
            command = [sys.executable, "-m", "benchmarks.h200", "--model", model]
            command += ["--batch", "1", "--hlo", str(text), *flags]
            run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            assert run.returncode == 0, run.stderr
            figures = json.loads(run.stdout.splitlines()[-1])
            done[model, flags] = figures, hlo.parse(text.read_text())
        return done[model, flags]

    return compile_once


@pytest.fixture(scope="module", params=SIZES)
def scan(request, compiled):
    """The published program of a model: bfloat16, cuDNN attention, 50 steps, cached."""
    _, program = compiled(request.param, "--steps", "50")
    return program, *SIZES[request.param]


def test_the_scan_has_one_conditional_inside_its_only_loop(scan):
    program, *_ = scan
    assert len(program.all("conditional")) == 1
    assert len(program.all("while")) == 1
    assert hlo.count(program.sampling_loop(), "conditional") == 1


def test_the_reuse_side_computes_nothing(scan):
    program, depth, _, _, branch = scan
    reuse, fresh = program.branches()
    assert {line.opcode for line in reuse} <= {"parameter", "get-tuple-element", "copy", "tuple"}
    deep = depth - 2 * branch
    assert hlo.count(fresh, hlo.ATTENTION) == deep
    assert hlo.products(fresh) == deep * PER_BLOCK + (depth // 2 - branch) * PER_FUSION


def test_every_stage_attends_through_cudnn_once(scan):
    program, depth, *_ = scan
    loop = program.sampling_loop()
    assert hlo.count(loop, hlo.ATTENTION) == depth
    whole = depth * PER_BLOCK + depth // 2 * PER_FUSION + AROUND
    assert hlo.products(loop) == whole


def test_the_conditional_is_no_select(scan):
    program, _, width, tokens, _ = scan
    assert hlo.largest(program.sampling_loop(), "select") < ROWS * tokens * width


def test_no_weights_are_concatenated_in_the_loop(scan):
    program, _, width, tokens, _ = scan
    one_modulation = width * 6 * width
    fusion_input = ROWS * tokens * 2 * width  # the largest legitimate concatenation
    assert fusion_input < one_modulation
    assert 0 < hlo.largest(program.sampling_loop(), "concatenate") < one_modulation


def test_xla_would_concatenate_weights_without_the_compiler_option(compiled):
    model = "DiT-S/2-skip"
    _, width, *_ = SIZES[model]
    _, program = compiled(model, "--steps", "50", "--merge-dots")
    assert hlo.largest(program.sampling_loop(), "concatenate") >= 2 * width * 6 * width


def test_nested_has_no_conditional(compiled):
    _, program = compiled("DiT-S/2-skip", "--steps", "50", "--driver", "nested")
    assert not program.all("conditional")
    shallow = 2 * PER_BLOCK + PER_FUSION + AROUND
    assert min(n for n in map(hlo.products, program.loops()) if n) == shallow


def test_memory_does_not_grow_with_the_number_of_steps(compiled):
    short, _ = compiled("DiT-S/2-skip", "--steps", "50")
    long, _ = compiled("DiT-S/2-skip", "--steps", "250")
    assert short["temp_bytes"] > 0
    assert long["temp_bytes"] == pytest.approx(short["temp_bytes"], rel=0.01)
