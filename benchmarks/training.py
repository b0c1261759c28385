"""Every figure about speed and memory of training, in one command.

From the root of the repository:

    python -m benchmarks.training [--sections step compile ...] [--json FILE]

Sections:
  step     images/s and MFU of the training step: remat, attention, batch sizes, rivals interleaved
  flags    the same best step in fresh processes with other flags of XLA (GPU only)
  data     examples/s that one reader sustains, in this process and in one worker
  compile  cold compilation of the XL/2 step on this machine
  h200     the steps compiled for an H200 without one: memory, compile time

MFU has no credit for work done again; 695 images/s of DiT-XL/2 on one H200 are half of its peak.
On a GPU the step is DiT-XL/2 at 256x256 in bfloat16; on a CPU a small stand-in, whose figures say
only which choice is faster. `--quick` is a smoke test.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import compiling, h200, report
from benchmarks.timing import interleaved
from benchmarks.training_step import BATCH, Variant, make
from benchmarks.weights import random_params
from skipdit_jax.data.config import DataConfig
from skipdit_jax.data.latent_files import write_latents
from skipdit_jax.data.open import open_data
from skipdit_jax.training.throughput import peak_flops, train_flops

ROUNDS, STEPS = 5, 4  # repeats; steps in each, so that starting them is no part of the figure
GIB = 2**30
MODELS = ("DiT-XL/2", "DiT-XL/2-skip")
REMATS = ("none", "dots", "blocks")
LATENT = (32, 32, 4)
EXAMPLES, QUICK_EXAMPLES = 20_000, 256
GPU_FLAGS = (
    "",
    "--xla_gpu_enable_latency_hiding_scheduler=true",
    "--xla_gpu_autotune_level=4",
    "--xla_gpu_triton_gemm_any=true",
)


def variants(quick: bool) -> list[Variant]:
    """What is compared on this machine's device."""
    if quick:
        return [Variant("DiT-S/8", 2, "float32", remat) for remat in REMATS[:2]]
    if jax.default_backend() != "gpu":
        return [Variant("DiT-S/2", 8, "float32", remat) for remat in REMATS]
    rows = [Variant(m, BATCH, remat=remat) for m in MODELS for remat in REMATS]
    rows += [Variant(MODELS[0], BATCH, remat="blocks", attention="xla")]
    return rows + [Variant(MODELS[0], batch, remat="dots") for batch in (128, 384, 512)]


class _Running:
    """A variant with weights on the device, advancing by some steps with each call."""

    def __init__(self, variant: Variant, steps: int):
        model, step, state_of = make(variant)
        rng = np.random.default_rng(0)
        image = rng.standard_normal((variant.batch, *model.config.sample_shape), np.float32)
        label = rng.integers(0, model.config.num_classes, variant.batch).astype(np.int32)
        self.batch = jax.device_put({"image": image, "label": label})
        self.state = state_of(random_params(model))
        self.compiled = step.lower(self.state, self.batch).compile()
        self.flops, self.images, self.steps = train_flops(model.costs), variant.batch, steps

    def __call__(self) -> None:
        for _ in range(self.steps):
            self.state, metrics = self.compiled(self.state, self.batch)
        jax.block_until_ready(metrics)


def measure_steps(quick: bool, rounds: int) -> list[dict[str, Any]]:
    """Rows of the table; a variant without room on the device says so.

    On a GPU one variant runs at a time: two states of XL and their activations do not fit together.
    """
    rows, alone = [], jax.default_backend() == "gpu"
    groups = [[one] for one in variants(quick)] if alone else [variants(quick)]
    for group in groups:
        try:
            running = {one: _Running(one, 1 if quick else STEPS) for one in group}
            times = interleaved(running, rounds)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            rows += [{**one._asdict(), "ms": "does not fit"} for one in group]
            continue
        rows += [_row(one, running[one], times[one]) for one in group]
    keys = list(max(rows, key=len))
    return [{key: row.get(key, "") for key in keys} for row in rows]


def _row(variant: Variant, running: _Running, times: Any) -> dict[str, Any]:
    seconds = times.median / running.steps
    peak = peak_flops(jax.devices()[0].device_kind, variant.dtype)
    flops = running.flops * running.images / seconds
    return {
        **variant._asdict(),
        "ms": 1e3 * seconds,
        "ms (min)": 1e3 * times.minimum / running.steps,
        "images/s": running.images / seconds,
        "TFLOP/s": flops / 1e12,
        "MFU": flops / peak if peak else "unknown",
        "temp GiB": running.compiled.memory_analysis().temp_size_in_bytes / GIB,
    }


def measure_flags(quick: bool) -> list[dict[str, Any]]:
    """The best guess of a step under other flags, each in a process of its own."""
    if jax.default_backend() != "gpu":
        return []
    rows = []
    for flags in GPU_FLAGS[: 1 if quick else None]:
        figures = compiling.in_fresh_process("benchmarks.training", "--one", flags)
        rows.append({"XLA_FLAGS": flags or "(none)", **figures})
    return rows


def measure_data(quick: bool) -> list[dict[str, Any]]:
    """Examples per second of moments [32,32,4] in both formats of shards."""
    rng = np.random.default_rng(0)
    count = QUICK_EXAMPLES if quick else EXAMPLES
    moments = rng.standard_normal((2, 64, *LATENT)).astype(np.float16)
    rows = []
    with tempfile.TemporaryDirectory() as root:
        for kind in ("array_record", "npz"):
            folder = Path(root) / kind
            one = ({"mean": moments[0, i % 64], "logvar": moments[1, i % 64]} for i in range(count))
            examples = ({**arrays, "label": i % 1000} for i, arrays in enumerate(one))
            write_latents(folder, examples, format=kind)
            for workers in (0, 1):
                rows.append({"shards": kind, "workers": workers, **_rate(folder, workers, count)})
    return rows


def _rate(folder: Path, workers: int, count: int) -> dict[str, float]:
    config = DataConfig(name="latents", path=str(folder), workers=workers)
    batches = open_data(config, sample_shape=LATENT, num_classes=1000, batch_size=64, seed=0)
    number = count // 64
    times = interleaved({"read": lambda: [next(batches) for _ in range(number)]}, 3)["read"]
    batches.close()
    return {"examples/s": number * 64 / times.median}


def measure_compile(quick: bool) -> list[dict[str, Any]]:
    """Cold compilation of the step for this machine, float32."""
    rows = []
    for model in ("DiT-S/8",) if quick else MODELS:
        flags = ("--model", model, "--dtype", "float32", "--batch", "16")
        rows.append(_compiled(model, flags, "16, float32"))
    return rows


def measure_h200(quick: bool) -> list[dict[str, Any]]:
    """The steps at batch 256 on an H200 (141 GB), with and without remat."""
    if not h200.available():
        print(f"h200 left out; it needs: {h200.INSTALL}\n", flush=True)
        return []
    rows = []
    for model in MODELS[1:] if quick else MODELS:
        for remat in REMATS[:1] if quick else REMATS:
            flags = ("--h200", "--model", model, "--remat", remat, "--attention", "cudnn")
            rows.append({**_compiled(model, flags, f"{BATCH}, bfloat16"), "remat": remat})
    return rows


def _compiled(model: str, flags: tuple[str, ...], batch: str) -> dict[str, Any]:
    figures = compiling.in_fresh_process("benchmarks.training_step", *flags)
    return {
        "model": model,
        "batch": batch,
        "trace + lower s": figures["lower_s"],
        "compile s": figures["compile_s"],
        "temp GiB": figures["temp_bytes"] / GIB,
        "state and batch GiB": figures["argument_bytes"] / GIB,
    }


def _one(flags: str) -> None:
    """A fresh process of `measure_flags`: XLA reads its flags when a device is first asked for."""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()
    variant = Variant(MODELS[0], BATCH, remat="dots")
    running = _Running(variant, STEPS)
    row = _row(variant, running, interleaved({"step": running}, ROUNDS)["step"])
    print(json.dumps({name: row[name] for name in ("ms", "images/s", "MFU")}))


def main() -> None:
    """Runs the chosen sections and prints one table for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ("step", "flags", "data", "compile", "h200")
    parser.add_argument("--sections", nargs="+", choices=names, default=names)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--one", metavar="XLA_FLAGS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        return _one(options.one)
    machine = report.environment(len(os.sched_getaffinity(0)))
    machine["device"] = jax.devices()[0].device_kind
    print("# Training benchmark\n")
    print(report.markdown(("machine", ""), list(machine.items())) + "\n", flush=True)
    quick, results = options.quick, {}
    measures = {
        "step": lambda: measure_steps(quick, 2 if quick else options.rounds),
        "flags": lambda: measure_flags(quick),
        "data": lambda: measure_data(quick),
        "compile": lambda: measure_compile(quick),
        "h200": lambda: measure_h200(quick),
    }
    for name in options.sections:
        results[name] = measures[name]()
        print(report.table(name, results[name]), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, **results}, indent=1))


if __name__ == "__main__":
    from absl import flags

    flags.FLAGS.mark_as_parsed()  # grain's worker asks absl for its own
    main()
