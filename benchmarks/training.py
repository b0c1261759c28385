"""Every figure about speed and memory of training, in one command.

From the root of the repository:

    pip install -r requirements.txt
    python -m benchmarks.training [--sections compile h200 ...] [--json FILE]

Sections:
  compile  cold compilation of the XL/2 training step for this machine's processor
  h200     the same step compiled for an H200 without one: memory, attention calls, compile time
  data     examples a second of latents, in memory, from array_record and from npz
  step     the step itself on the device at hand: remat, attention, batch sizes, options of XLA
  wait     the training loop over the same latents: images a second, share of waiting for data

On a GPU, `step` and `wait` run DiT-XL/2 and DiT-XL/2-skip in bfloat16 at batch 256; MFU counts
3 forward passes of matrix products by formula and nothing for remat, against the data sheet's dense
peak. On CPU `step` runs small models, and the loop of `wait` sleeps for as long as a step at the
target rate would take.

Rivals take turns within one run; medians are printed, compilation is never timed as running. On two
cores the whole takes about 15 minutes and 6 GB of memory. `--quick` is a smoke test whose figures
mean nothing.
"""

import argparse
import json
import os
from pathlib import Path

from benchmarks import compiling, h200, report
from benchmarks.training_step import BATCH, TINY

ROUNDS, QUICK_ROUNDS = 5, 1
MODELS = ("DiT-XL/2", "DiT-XL/2-skip")
QUICK_MODEL = "DiT-S/2-skip"
REMATS = ("none", "dots", "blocks")
GIB = 2**30
# JAX takes three quarters of a card; the step at batch 256 without remat needs more of an H200.
MEMORY_FRACTION = "0.92"


def _compiled(model: str, remat: str, *flags: str) -> dict[str, object]:
    command = ("benchmarks.training_step", "--model", model, "--remat", remat, *flags)
    figures = compiling.in_fresh_process(*command)
    row: dict[str, object] = {
        "model": model,
        "remat": remat,
        "import s": figures["import_s"],
        "trace + lower s": figures["lower_s"],
        "compile s": figures["compile_s"],
        "trace to compiled s": figures["lower_s"] + figures["compile_s"],
        "temp GiB": figures["temp_bytes"] / GIB,
        "state and batch GiB": figures["argument_bytes"] / GIB,
    }
    if "--h200" in flags:
        row["attention calls"] = figures["attention_calls"]
        row["backward"] = figures["attention_backward_calls"]
    return row


def _compile(quick: bool, models: tuple[str, ...], *flags: str) -> list[dict[str, object]]:
    if quick:
        return [_compiled(QUICK_MODEL, "none", "--overrides", TINY, "--batch", "2", *flags)]
    remats = REMATS if "--h200" in flags else (REMATS[0], REMATS[-1])
    return [_compiled(model, remat, *flags) for model in models or MODELS for remat in remats]


def _sections(options: argparse.Namespace):
    """Name -> (title, function that measures); JAX is imported by those that run something."""
    quick, models, trials = options.quick, tuple(options.models), tuple(options.trials)
    rounds = options.rounds or (QUICK_ROUNDS if quick else ROUNDS)

    def data():
        from benchmarks import training_data

        return training_data.measure_rates(quick, rounds)

    def step():
        from benchmarks import training_speed

        return training_speed.measure_steps(quick, rounds, models, trials)

    def wait():
        from benchmarks import training_speed

        return training_speed.measure_waits(quick, models)

    return {
        "compile": (
            f"Cold compilation for this processor (float32, batch {BATCH})",
            lambda: _compile(quick, models, "--dtype", "float32"),
        ),
        "h200": (
            f"Compiled for an H200 (bfloat16, batch {BATCH}, cuDNN attention)",
            lambda: _compile(quick, models, "--h200", "--attention", "cudnn"),
        ),
        "data": ("Examples a second of latents 32x32x4", data),
        "step": ("Training step", step),
        "wait": ("Training loop", wait),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ("compile", "h200", "data", "step", "wait")
    parser.add_argument("--sections", nargs="+", choices=names, default=names)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--models", nargs="+", default=(), help="not those of the machine")
    parser.add_argument("--trials", nargs="+", default=(), help="of step, by name; default all")
    parser.add_argument("--rounds", type=int, help=f"default {ROUNDS}")
    parser.add_argument("--threads", type=int, help="cores to use; default all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    return parser


def main() -> None:
    """Runs the chosen sections and prints one table for each."""
    options = _parser().parse_args()
    # Both before JAX starts: it takes a thread for each core, and memory at once.
    cores = sorted(os.sched_getaffinity(0))[: options.threads]
    os.sched_setaffinity(0, cores)
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", MEMORY_FRACTION)
    machine = report.environment(len(cores))
    print("# Training benchmark\n")
    print(report.markdown(("machine", ""), list(machine.items())) + "\n", flush=True)
    results = {}
    sections = _sections(options)
    for name in options.sections:
        title, measure = sections[name]
        if name == "h200" and not h200.available():
            print(f"## {title}\n\nleft out; it needs: {h200.INSTALL}\n", flush=True)
            continue
        results[name] = measure()
        print(report.table(title, results[name]), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, **results}, indent=1))


if __name__ == "__main__":
    main()
