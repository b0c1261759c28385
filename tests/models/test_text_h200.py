"""Samplers of models of text compiled for an H200, without one: run with `pytest -m h200`.

At the published width and size of samples, of fewer stages: docs/models.md has the whole ones.
"""

import json
from typing import NamedTuple

import pytest

from tests.caching import hlo
from tests.caching.on_h200 import MARKS, Compiler

pytestmark = MARKS


class Size(NamedTuple):
    """A model of few stages; tokens are those of a sample.

    Attributes:
      attentions: of a stage.
      products: of a stage: queries, keys, values and output of attention along tokens (and along
        frames), queries and output of attention to the text, two of each MLP; modulation.
      around: patches, two for the timestep, one or two for what modulates, the last layer.
      text: what is made once: keys and values of each stage, and what comes before them.
      temporal: attentions along frames of a stage.
    """

    depth: int
    skips: int
    width: int
    tokens: int
    attentions: int
    products: int
    around: int
    text: int
    temporal: int = 0


SIZES = {
    "LatteT2V-skip": Size(4, 2, 1152, 16 * 1024, 3, 14, 5, 2 * 4 + 2, temporal=1),
    "HunYuan-DiT-g/2": Size(4, 1, 1408, 4096, 2, 9, 5, 2 * 4 + 8),
}
ROWS = 2  # one sample, doubled by guidance
TOLD = ("--steps", "10", "--cache", "N2-1000-0")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return Compiler(tmp_path_factory)


@pytest.fixture(scope="module", params=SIZES)
def scan(request, compiled):
    """(program, its size): bfloat16, cuDNN attention, guided, texts read before the loop."""
    size = SIZES[request.param]
    _, program = compiled(request.param, *flags_of(size))
    return program, size


def flags_of(size):
    return (*TOLD, "--overrides", json.dumps({"depth": size.depth}))


def test_one_conditional_in_the_only_loop_reuses_without_computing(scan):
    program, size = scan
    assert len(program.all("conditional")) == len(program.all("while")) == 1
    assert hlo.count(program.sampling_loop(), "conditional") == 1
    reuse, fresh = program.branches()
    assert hlo.products(reuse) == hlo.count(reuse, hlo.ATTENTION) == 0
    inside = size.depth - 2
    assert hlo.products(fresh) == inside * size.products + size.skips - 1


def test_every_attention_is_one_fused_call(scan):
    program, size = scan
    loop = program.sampling_loop()
    assert hlo.count(loop, hlo.ATTENTION) == size.depth * size.attentions


def test_no_step_multiplies_a_text(scan):
    program, size = scan
    loop = program.sampling_loop()
    assert hlo.products(loop) == size.depth * size.products + size.skips + size.around
    lines = [line for body in program.computations.values() for line in body]
    assert hlo.products(lines) - hlo.products(loop) == size.text


def test_only_attention_along_frames_transposes_hidden_states(scan):
    """q, k, v and the result; nothing else of this size is moved or copied."""
    program, size = scan
    loop, hidden = program.sampling_loop(), ROWS * size.tokens * size.width
    assert hlo.sized(loop, "transpose", hidden) == 4 * size.temporal * size.depth
    assert hlo.largest(loop, "copy") < hidden


def test_without_hoisting_every_step_multiplies_the_text(compiled):
    """XLA takes nothing out of the loop for this card."""
    name = "HunYuan-DiT-g/2"
    size = SIZES[name]
    _, program = compiled(name, *flags_of(size), "--text-at-each-step")
    loop = program.sampling_loop()
    once = size.depth * size.products + size.skips + size.around
    assert hlo.products(loop) == once + size.text
