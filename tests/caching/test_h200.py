"""The compiled sampler on an H200, without one: run with `pytest -m h200` (CONTRIBUTING.md)."""

import json
from typing import NamedTuple

import pytest

from tests.caching import hlo
from tests.caching.on_h200 import MARKS, Compiler

pytestmark = MARKS
CLIPS = ("--overrides", '{"num_classes": 101}')


class Size(NamedTuple):
    """A model compiled here; tokens are those of a whole sample, branch counts stages."""

    depth: int
    width: int
    tokens: int
    branch: int
    blocks: int = 1  # of a stage
    flags: tuple[str, ...] = ()

    @property
    def stages(self):
        return self.depth // self.blocks


SIZES = {
    "DiT-S/2-skip": Size(12, 384, 256, 1),
    "DiT-XL/2-skip": Size(28, 1152, 256, 4),
    "Latte-XL/2-skip": Size(28, 1152, 16 * 256, 1, blocks=2, flags=CLIPS),
}
# Matrix products (docs/notes.md, Parts of DiT and Latte). A block: qkv, its output, two of the MLP,
# modulation; attention is one call apart. Around the blocks: patches, two for the timestep, two of
# the last layer.
PER_BLOCK, PER_FUSION, AROUND = 5, 1, 5
ROWS = 2  # one sample, doubled by guidance


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return Compiler(tmp_path_factory)


@pytest.fixture(scope="module", params=SIZES)
def scan(request, compiled):
    """The published program of a model: bfloat16, cuDNN attention, 50 steps, cached."""
    size = SIZES[request.param]
    _, program = compiled(request.param, "--steps", "50", *size.flags)
    return program, size


def test_the_scan_has_one_conditional_inside_its_only_loop(scan):
    program, _ = scan
    assert len(program.all("conditional")) == 1
    assert len(program.all("while")) == 1
    assert hlo.count(program.sampling_loop(), "conditional") == 1


def test_the_reuse_side_computes_nothing(scan):
    program, size = scan
    reuse, fresh = program.branches()
    assert {line.opcode for line in reuse} <= {"parameter", "get-tuple-element", "tuple"}
    deep = (size.stages - 2 * size.branch) * size.blocks
    assert hlo.count(fresh, hlo.ATTENTION) == deep
    fusions = size.stages // 2 - size.branch
    assert hlo.products(fresh) == deep * PER_BLOCK + fusions * PER_FUSION


def test_every_block_attends_through_cudnn_once(scan):
    program, size = scan
    loop = program.sampling_loop()
    assert hlo.count(loop, hlo.ATTENTION) == size.depth
    whole = size.depth * PER_BLOCK + size.stages // 2 * PER_FUSION + AROUND
    assert hlo.products(loop) == whole


def test_the_conditional_is_no_select(scan):
    program, size = scan
    assert hlo.largest(program.sampling_loop(), "select") < ROWS * size.tokens * size.width


def test_no_weights_are_concatenated_in_the_loop(scan):
    program, size = scan
    one_modulation = size.width * 6 * size.width
    fusion_input = ROWS * size.tokens * 2 * size.width  # the largest legitimate concatenation
    made = {line.elements for line in program.sampling_loop() if line.opcode == "concatenate"}
    assert fusion_input in made
    assert {size for size in made if size >= one_modulation} <= {fusion_input}


def test_only_temporal_attention_transposes_its_operands(scan):
    """q, k, v and the result; spatial attention takes them as the products leave them."""
    program, size = scan
    hidden = ROWS * size.tokens * size.width
    temporal = size.depth // 2 if size.blocks == 2 else 0
    assert hlo.sized(program.sampling_loop(), "transpose", hidden) == 4 * temporal


def test_xla_would_concatenate_weights_without_the_compiler_option(compiled):
    model = "DiT-S/2-skip"
    width = SIZES[model].width
    _, program = compiled(model, "--steps", "50", "--merge-dots")
    assert hlo.largest(program.sampling_loop(), "concatenate") >= 2 * width * 6 * width


def test_nested_has_no_conditional(compiled):
    _, program = compiled("DiT-S/2-skip", "--steps", "50", "--driver", "nested")
    assert not program.all("conditional")
    shallow = 2 * PER_BLOCK + PER_FUSION + AROUND
    assert min(n for n in map(hlo.products, program.loops()) if n) == shallow


SHALLOW = ("--steps", "10", "--overrides", '{"depth": 4, "num_classes": 101}')
FILES = {
    "smooth": {"attn": [1, 0, 1, 0, 0, 1, 0, 0, 1, 0], "mlp": [1, 0, 0, 1, 0, 1, 0, 1, 0, 0]},
    "mag": [1.0, 0.99, 0.99, 0.98, 0.99, 0.99, 0.99, 0.99, 0.98, 0.97],
}
METHODS = {
    "N3-1000-20": "DiT-S/2-skip",
    "deepcache:4": "DiT-S/2-skip",
    "pab:2:3": "Latte-S/2",
    "smooth": "DiT-S/2",
    "mag": "DiT-S/2",
    "taylor(interval=4, lite=True)": "DiT-S/2",
    "fora:3": "DiT-S/2",
    "taylor:4:2": "DiT-S/2",
    "delta:2": "DiT-S/2",
    "faster-cache": "DiT-S/2",
    "faster-cache(variant='diffusers')": "DiT-S/2",
    "fora(every=3, forecast='foca')": "DiT-S/2",
    "block-cache(every=3, forecast='foca')": "DiT-S/2",
    "faster-diffusion": "DiT-S/2-skip",
}


@pytest.mark.parametrize(("cache", "model"), METHODS.items())
def test_no_method_copies_what_it_keeps(compiled, cache, model, tmp_path):
    size = SIZES["DiT-S/2-skip"]
    hidden = ROWS * size.tokens * size.width
    if cache in FILES:
        path = tmp_path / "schedule.json"
        path.write_text(json.dumps(FILES[cache]))
        cache = f"{cache}:{path}"
    loop = compiled(model, *SHALLOW, "--cache", cache)[1].sampling_loop()
    assert max(line.elements for line in loop) >= hidden
    assert hlo.largest(loop, "copy") < hidden


def test_a_reusing_step_of_fora_multiplies_nothing(compiled):
    """Modulation is made before the loop; weights that no step reads are not read."""
    reuse, fresh = compiled("DiT-S/2", *SHALLOW, "--cache", "fora:3")[1].branches()
    assert hlo.products(reuse) == hlo.count(reuse, hlo.ATTENTION) == 0
    assert hlo.products(fresh) == 4 * (PER_BLOCK - 1)


def test_memory_does_not_grow_with_the_number_of_steps(compiled):
    short, _ = compiled("DiT-S/2-skip", "--steps", "50")
    long, _ = compiled("DiT-S/2-skip", "--steps", "250")
    assert short["temp_bytes"] > 0
    assert long["temp_bytes"] == pytest.approx(short["temp_bytes"], rel=0.01)
