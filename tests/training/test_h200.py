"""The training step on an H200, without one: run with `pytest -m h200` (CONTRIBUTING.md)."""

import pytest

from tests.caching import hlo
from tests.caching.on_h200 import MARKS, Compiler

pytestmark = MARKS
BATCH, DEPTH, WIDTH, TOKENS = 256, 28, 1152, 256
FUSIONS = {"DiT-XL/2": 0, "DiT-XL/2-skip": DEPTH // 2}
# Matrix products of one forward pass (docs/notes.md, Parts of DiT and Latte). A block: qkv, its
# output, two of the MLP, modulation; attention is one call apart. Around the blocks: patches, two
# for the timestep, the last layer's two. Nobody asks for the gradient of the latents, nor for that
# of the timestep.
PER_BLOCK, PER_FUSION, AROUND, INPUTS = 5, 1, 5, 2
ATTENTION_BACKWARD = f"{hlo.ATTENTION}Backward"
CARD_BYTES = 141e9  # NVIDIA H200 data sheet
STATE_COPIES, FLOAT32_BYTES = 4, 4  # parameters, their average, two moments of Adam


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Compiles in processes of their own, each step once: (figures, every instruction)."""
    command = ("benchmarks.training_step", "--h200", "--batch", str(BATCH), "--attention", "cudnn")
    steps = Compiler(tmp_path_factory, *command)

    def compile_once(model, remat="none"):
        figures, program = steps(model, "--remat", remat)
        return figures, [line for body in program.computations.values() for line in body]

    return compile_once


@pytest.mark.parametrize("model", FUSIONS)
def test_every_block_attends_once_forwards_and_once_backwards(compiled, model):
    _, lines = compiled(model)
    assert hlo.count(lines, hlo.ATTENTION) == DEPTH
    assert hlo.count(lines, ATTENTION_BACKWARD) == DEPTH


@pytest.mark.parametrize("model", FUSIONS)
def test_the_backward_pass_costs_two_products_for_one_and_nothing_is_done_twice(compiled, model):
    _, lines = compiled(model)
    forward = AROUND + DEPTH * PER_BLOCK + FUSIONS[model] * PER_FUSION
    assert hlo.products(lines) == 3 * forward - INPUTS


@pytest.mark.parametrize("model", FUSIONS)
def test_no_weights_are_concatenated(compiled, model):
    _, lines = compiled(model)
    one_modulation = WIDTH * 6 * WIDTH
    fusion_input = BATCH * TOKENS * 2 * WIDTH
    large = {n.elements for n in lines if n.opcode == "concatenate" and n.elements > WIDTH**2 * 2}
    allowed = {fusion_input} if FUSIONS[model] else set()
    assert {size for size in large if size >= one_modulation} == allowed


@pytest.mark.parametrize("model", FUSIONS)
def test_the_published_batch_fits_without_remat_and_the_state_is_updated_in_place(compiled, model):
    figures, _ = compiled(model)
    assert figures["temp_bytes"] + figures["argument_bytes"] < CARD_BYTES
    images = BATCH * TOKENS * 4 * 4 * FLOAT32_BYTES  # 2x2 patches of 4 channels
    assert figures["donated_bytes"] >= 0.99 * (figures["argument_bytes"] - images)


def test_remat_of_blocks_repeats_exactly_their_forward_pass_and_frees_most_memory(compiled):
    model = "DiT-XL/2-skip"
    plain, plain_lines = compiled(model)
    saving, lines = compiled(model, "blocks")
    assert hlo.count(lines, hlo.ATTENTION) == 2 * DEPTH
    assert hlo.count(lines, ATTENTION_BACKWARD) == DEPTH
    assert hlo.products(lines) - hlo.products(plain_lines) == DEPTH * PER_BLOCK
    assert 4 * saving["temp_bytes"] < plain["temp_bytes"]
