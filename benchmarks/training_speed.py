"""The training step on the device at hand: what each choice gives, rivals in one process."""

import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks import training_data
from benchmarks.timing import Timing, interleaved
from benchmarks.training_step import BATCH, TINY, Variant, abstract_arguments, make
from benchmarks.weights import random_params
from skipdit_jax.training.state import TrainState
from skipdit_jax.training.throughput import peak_flops, train_flops

GIB = 2**30


class Trial(NamedTuple):
    """What differs from the plain step: fields of `Variant`, and options of XLA."""

    changes: Mapping[str, Any] = {}
    options: Mapping[str, str | bool] = {}


class Setting(NamedTuple):
    """What is measured on one kind of machine; `calls` steps are handed over before the wait."""

    models: tuple[str, ...]
    batch: int
    dtype: str
    calls: int
    trials: tuple[str, ...]
    overrides: str = "{}"


PLAIN = "plain"
TRIALS = {
    PLAIN: Trial(),
    "remat dots": Trial({"remat": "dots"}),
    "remat blocks": Trial({"remat": "blocks"}),
    "attention xla": Trial({"attention": "xla"}),
    "batch 128": Trial({"batch": 128}),
    "remat dots, batch 384": Trial({"remat": "dots", "batch": 384}),
    "remat blocks, batch 512": Trial({"remat": "blocks", "batch": 512}),
    "latency hiding": Trial(options={"xla_gpu_enable_latency_hiding_scheduler": True}),
    "no autotuning": Trial(options={"xla_gpu_autotune_level": "0"}),
    "no Triton products": Trial(options={"xla_gpu_enable_triton_gemm": False}),
    "merged products": Trial(options={"xla_gpu_dot_merger_threshold_mb": "32"}),
}
GPU = Setting(("DiT-XL/2", "DiT-XL/2-skip"), BATCH, "bfloat16", 10, tuple(TRIALS))
CPU = Setting(("DiT-S/2", "DiT-S/2-skip"), 4, "float32", 1, tuple(TRIALS)[:3])
QUICK = Setting(("DiT-S/2-skip",), 2, "float32", 2, (PLAIN, "latency hiding"), TINY)


class Program(NamedTuple):
    """A compiled step with its batch."""

    step: Any
    batch: Any
    images: int
    gib: float
    compile_s: float


def setting(quick: bool) -> Setting:
    """What this machine is asked to do."""
    if quick:
        return QUICK
    return GPU if jax.default_backend() == "gpu" else CPU


def build(variant: Variant, options: Mapping[str, str | bool]) -> Program:
    """Compiles a step, and makes its batch on the device."""
    step, state, batch = abstract_arguments(variant)
    start = time.perf_counter()
    compiled = step.lower(state, batch).compile(compiler_options=dict(options))
    seconds = time.perf_counter() - start
    memory = compiled.memory_analysis()
    gib = (memory.temp_size_in_bytes + memory.argument_size_in_bytes) / GIB
    images = np.random.default_rng(0).standard_normal(batch["image"].shape, np.float32)
    labels = np.arange(variant.batch, dtype=np.int32)
    held = jax.device_put({"image": images, "label": labels})
    print(f"{variant} {dict(options)}: {seconds:.0f} s, {gib:.1f} GiB", file=sys.stderr, flush=True)
    return Program(compiled, held, variant.batch, gib, seconds)


def first_state(variant: Variant) -> TrainState:
    """A state with random parameters, on the device."""
    model, _, state_of = make(variant)
    return jax.jit(state_of)(random_params(model))


def _fits(program: Program) -> bool:
    stats = jax.local_devices()[0].memory_stats()
    return not stats or program.gib * GIB <= stats["bytes_limit"]


def _timed(programs: Mapping[str, Program], state: TrainState, calls: int, rounds: int):
    """Rivals donate one state to each other: their trees are the same, and two may not fit."""

    def run(program: Program) -> None:
        nonlocal state
        for _ in range(calls):
            state, metrics = program.step(state, program.batch)
        jax.block_until_ready((state, metrics))

    runs: dict[str, Callable[[], object]] = {n: partial(run, p) for n, p in programs.items()}
    return interleaved(runs, rounds)


def _rates(program: Program, timing: Timing | None, calls: int, variant: Variant):
    names = ("ms a step", "fastest", "images/s", "TFLOP/s", "MFU %")
    if timing is None:
        return dict.fromkeys(names, "does not fit")
    flops, peak = _flops_and_peak(variant)
    rate = program.images * calls / timing.median
    milliseconds = [1e3 * seconds / calls for seconds in (timing.median, timing.minimum)]
    utilisation = 100 * rate * flops / peak if peak else "-"
    values = (*milliseconds, rate, rate * flops / 1e12, utilisation)
    return dict(zip(names, values, strict=True))


def measure_steps(
    quick: bool, rounds: int, models: tuple[str, ...] = (), trials: tuple[str, ...] = ()
) -> list[dict[str, object]]:
    """Rows: every trial of every model; what cannot fit into the memory is compiled only."""
    jax.config.update("jax_enable_compilation_cache", False)
    asked, rows = setting(quick), []
    for name in models or asked.models:
        plain = Variant(name, asked.batch, asked.dtype, overrides=asked.overrides)
        programs = {
            trial: build(plain._replace(**TRIALS[trial].changes), TRIALS[trial].options)
            for trial in trials or asked.trials
        }
        fitting = {trial: program for trial, program in programs.items() if _fits(program)}
        timings = _timed(fitting, first_state(plain), asked.calls, rounds) if fitting else {}
        rows += [
            {
                "model": name,
                "trial": trial,
                "batch": program.images,
                "trace to compiled s": program.compile_s,
                "GiB": program.gib,
                **_rates(program, timings.get(trial), asked.calls, plain),
            }
            for trial, program in programs.items()
        ]
    return rows


def measure_waits(quick: bool, models: tuple[str, ...] = ()) -> list[dict[str, object]]:
    """Rows: waiting for data, with the real step on a GPU and with a paced one elsewhere."""
    asked = setting(quick)
    if asked is not GPU:
        state, paced = training_data.paced_step(training_data.TARGET_RATE)
        return training_data.measure_waits(quick, paced, state, 0, None)
    plain = Variant((models or asked.models)[0], asked.batch, asked.dtype)
    program = build(plain, {})
    flops, peak = _flops_and_peak(plain)
    return training_data.measure_waits(quick, program.step, first_state(plain), flops, peak)


def _flops_and_peak(variant: Variant) -> tuple[int, float | None]:
    """FLOPs of an image by formula, without credit for work done again; FLOP/s of the device."""
    costs = make(variant)[0].costs
    return train_flops(costs), peak_flops(jax.local_devices()[0].device_kind, variant.dtype)
