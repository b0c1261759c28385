"""What the compiled sampler is: conditionals, matrix products, memory, and when it compiles.

Why it is a scan with a conditional: docs/notes.md, One scan with a conditional.
"""

import contextlib

import jax
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.pipeline import Sampler, sample_keys
from skipdit_jax.registry import abstract_params
from tests.caching import hlo

DEPTH, WIDTH, TOKENS, BATCH = 6, 64, 16, 2
ROWS = 2 * BATCH  # guidance doubles the batch
# Matrix products (docs/notes.md, Parts of DiT and Latte). A block: qkv, both of attention, its
# output, two of the MLP, modulation. Around the blocks: patches, two for the timestep, modulation
# and output of the last layer.
PER_BLOCK, PER_FUSION, AROUND = 7, 1, 5
# The structure is decided before machine code is made; not optimising that saves most of the time.
QUICKLY = {"xla_backend_optimization_level": 0}


def compiled(driver, every, branch=1, steps=50):
    model = sd.create_model(
        "DiT-S/2-skip", depth=DEPTH, hidden_size=WIDTH, num_heads=4, input_size=8, num_classes=10
    )
    cache = sd.SkipCache(every=every, branch=branch) if every else None
    return program_of(Sampler(model, steps=steps, guidance=4.0, cache=cache, driver=driver), BATCH)


def program_of(sampler, batch):
    keys = sample_keys(jax.random.key(0), 0, batch)
    params = abstract_params(sampler._program.model)
    lowered = sampler.lower(params, keys, np.zeros(batch, np.int32))
    return lowered.compile(compiler_options=QUICKLY)


@pytest.fixture(scope="module")
def scan():
    return compiled("scan", every=3)


@pytest.fixture(scope="module")
def scan_program(scan):
    return hlo.parse(scan.as_text())


@pytest.fixture(scope="module")
def nested_program():
    return hlo.parse(compiled("nested", every=3).as_text())


@pytest.fixture(scope="module")
def plain_program():
    return hlo.parse(compiled("scan", every=None).as_text())


def products_of_call(blocks, fusions):
    return blocks * PER_BLOCK + fusions * PER_FUSION


def test_the_scan_has_one_conditional_and_it_is_inside_the_loop(scan_program):
    assert len(scan_program.all("conditional")) == 1
    assert hlo.count(scan_program.sampling_loop(), "conditional") == 1


def test_nothing_else_has_a_conditional(nested_program, plain_program):
    assert not nested_program.all("conditional")
    assert not plain_program.all("conditional")


@pytest.mark.parametrize("branch", [1, 2])
def test_the_reuse_side_computes_nothing(scan_program, branch):
    program = scan_program
    if branch != 1:
        program = hlo.parse(compiled("scan", every=3, branch=branch).as_text())
    reuse, fresh = program.branches()
    assert {line.opcode for line in reuse} <= {"parameter", "get-tuple-element", "tuple"}
    deep = products_of_call(DEPTH - 2 * branch, DEPTH // 2 - branch)
    assert hlo.products(fresh) == deep
    shallow = products_of_call(2 * branch, branch) + AROUND
    assert hlo.products(program.sampling_loop()) == deep + shallow


def test_the_cache_is_never_copied(scan_program, plain_program):
    """Attention copies operands of the same size: as many as without a cache."""
    size = ROWS * TOKENS * WIDTH
    without = hlo.sized(plain_program.sampling_loop(), "copy", size)
    assert hlo.sized(scan_program.sampling_loop(), "copy", size) == without


def test_the_conditional_is_no_select(scan_program):
    cache_elements = ROWS * TOKENS * WIDTH
    assert hlo.largest(scan_program.sampling_loop(), "select") < cache_elements
    assert hlo.largest(scan_program.all("conditional"), "conditional") == cache_elements


def test_the_inner_loop_of_nested_holds_only_the_shallow_stages(nested_program):
    full = products_of_call(DEPTH, DEPTH // 2) + AROUND
    shallow = products_of_call(2, 1) + AROUND
    # The steps below the last cached timestep are full ones: a loop of their own.
    found = sorted(n for n in map(hlo.products, nested_program.loops()) if n)
    assert found == [shallow, full, full + shallow]


def test_no_weights_are_concatenated_in_the_loop(scan_program, nested_program, plain_program):
    one_modulation = WIDTH * 6 * WIDTH
    fusion_input = ROWS * TOKENS * 2 * WIDTH  # the largest legitimate concatenation
    assert fusion_input < one_modulation
    for program in (scan_program, nested_program, plain_program):
        assert 0 < hlo.largest(program.sampling_loop(), "concatenate") < one_modulation


def test_the_uncached_loop_runs_every_stage(plain_program):
    full = products_of_call(DEPTH, DEPTH // 2) + AROUND
    assert hlo.products(plain_program.sampling_loop()) == full


def test_memory_does_not_grow_with_the_number_of_steps(scan):
    short = scan.memory_analysis().temp_size_in_bytes
    long = compiled("scan", every=3, steps=250).memory_analysis().temp_size_in_bytes
    assert short > 0
    assert long == pytest.approx(short, rel=0.01)


@contextlib.contextmanager
def compilations():
    """A list that gets the name of every backend compilation inside the block."""
    seen = []

    def listen(event, duration, **kwargs):
        if event.endswith("backend_compile_duration"):
            seen.append(kwargs.get("fun_name", event))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


SMALL = {"depth": 4, "hidden_size": 16, "num_heads": 2, "input_size": 4, "num_classes": 10}
USUAL = {"steps": 10, "guidance": 4.0, "cache": sd.SkipCache(every=2, branch=1)}


@pytest.fixture(scope="module")
def first_call():
    """A model, its weights, and what the first call of the usual settings compiled."""
    model = sd.create_model("DiT-S/2-skip", **SMALL)
    params = jax.tree.map(lambda a: np.full(a.shape, 0.1, a.dtype), abstract_params(model))
    with compilations() as seen:
        sd.sample(model, params, jax.random.key(1), labels=[1, 2], **USUAL)
    return model, params, seen


def test_the_counter_sees_the_first_compilation(first_call):
    *_, seen = first_call
    assert sum("_run" in name for name in seen) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"guidance": 1.5},
        {"guidance": sd.Guidance(scale=7.0, channels=3)},
        {"cache": sd.SkipCache(every=4, branch=1, start=900, stop=300)},
        {"cache": sd.SkipCache(every=1, branch=1)},
        {"steps": "7,3"},
        {"steps": "ddim10"},
        {"steps": "leading10+1"},
        {"diffusion": sd.Diffusion(schedule="squaredcos_cap_v2")},
    ],
    ids=str,
)
def test_nothing_recompiles(first_call, changed):
    model, params, _ = first_call
    with compilations() as seen:
        sd.sample(model, params, jax.random.key(7), labels=[9, 0], **{**USUAL, **changed})
    assert seen == []


def test_other_weights_do_not_recompile(first_call):
    model, params, _ = first_call
    others = jax.tree.map(lambda a: a * np.float32(2), params)
    with compilations() as seen:
        sd.sample(model, others, jax.random.key(1), labels=[1, 2], **USUAL)
    assert seen == []


def test_an_equal_model_does_not_recompile(first_call):
    _, params, _ = first_call
    again = sd.create_model("DiT-S/2-skip", **SMALL)
    with compilations() as seen:
        sd.sample(again, params, jax.random.key(1), labels=[1, 2], **USUAL)
    assert seen == []
