"""Every figure about speed and memory of sampling, in one command.

From the root of the repository:

    pip install -r requirements.txt -r requirements-torch.txt
    python -m benchmarks.sampling [--sections speedup forward ...] [--json FILE]

Sections:
  speedup    Skip-Cache (N = 2, 3, 4) against no cache: measured speedup over the FLOP ceiling
  texts      the same for models of text
  hoisting   keys and values of texts made once before the loop against at each step
  methods    every caching method against no cache: speedup over the FLOP ceiling, bytes, memory
  deciding   methods that decide, and that choose tokens, likewise: FLOPs are those really spent
  decisions  what deciding costs where every step is computed
  scores     what it costs that attention tells which tokens were looked at
  drivers    one scan with a cond, nested scans, a Python loop
  forward    one full float32 forward pass of each family against PyTorch eager
  decode     the VAE's decoder against PyTorch eager; on a GPU against 50 steps of DiT-XL/2
  metrics    features of InceptionV3 against PyTorch eager
  compile    cold compilation of cached XL/2 samplers, and their memory
  h200       the same program compiled for an H200 without one: memory, compile time
  metrics-h200
             networks of metrics likewise, and their FLOPs

Rivals take turns within one run; medians and minima are printed. On two cores the whole takes
about 40 minutes and 12 GB of memory; run it on a machine that does nothing else. `--quick` is a
smoke test whose figures mean nothing.
"""

import argparse
import importlib.util
import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks import compiling, deciding, h200, methods, metrics, report, speedup, texts

ROUNDS = 5
FORWARD_ROUNDS = 15
QUICK_ROUNDS = 2
H200_ROWS = (  # steps, flags
    (250, ()),
    (50, ()),
    (250, ("--attention", "xla")),
    (250, ("--merge-dots",)),
)


def _h200(quick: bool) -> list[dict[str, object]]:
    model = "DiT-S/2-skip" if quick else "DiT-XL/2-skip"
    rows = []
    for steps, flags in H200_ROWS[:1] if quick else H200_ROWS:
        command = ("benchmarks.h200", "--model", model, "--steps", str(steps), *flags)
        figures = compiling.in_fresh_process(*command)
        rows.append(
            {
                "model": model,
                "steps": steps,
                "flags": " ".join(flags) or "cudnn",
                "trace + lower s": figures["lower_s"],
                "compile s": figures["compile_s"],
                "temp MiB": figures["temp_bytes"] / compiling.MIB,
                "weights and inputs MiB": figures["argument_bytes"] / compiling.MIB,
            }
        )
    return rows


def _forward(
    quick: bool, rounds: int, threads: int, models: Sequence[str]
) -> list[dict[str, object]]:
    from benchmarks import forward  # torch is needed only here

    return forward.measure(quick, rounds, threads, models)


def _decode(quick: bool, rounds: int, threads: int) -> list[dict[str, object]]:
    from benchmarks import decoding  # as above

    return decoding.measure(quick, rounds, threads)


def _missing(section: str) -> str | None:
    """What a section lacks, as a command; None if it can run."""
    if section in ("forward", "decode", "metrics") and importlib.util.find_spec("torch") is None:
        return "pip install -r requirements-torch.txt"
    if section in ("h200", "metrics-h200") and not h200.available():
        return h200.INSTALL
    return None


def _sections(options: argparse.Namespace):
    """Name -> (title, function that measures)."""
    quick = options.quick
    rounds = options.rounds or (QUICK_ROUNDS if quick else ROUNDS)
    passes = options.rounds or (QUICK_ROUNDS if quick else FORWARD_ROUNDS)
    models = options.models or [""]
    by_model = {
        "speedup": ("Skip-Cache against no cache", speedup.measure),
        "texts": ("Skip-Cache against no cache, models of text", texts.measure),
        "hoisting": ("Texts read once against texts read at each step", texts.measure_hoisting),
        "methods": ("Caching methods against no cache", methods.measure),
        "deciding": (
            "Methods that decide, and that choose tokens, against no cache",
            deciding.measure,
        ),
        "decisions": ("What deciding costs", deciding.measure_cost),
    }
    return {
        **{
            name: (title, partial(measure, quick, rounds, models))
            for name, (title, measure) in by_model.items()
        },
        "scores": ("Worth of tokens", lambda: deciding.measure_scores(quick, passes)),
        "drivers": ("Drivers", lambda: speedup.compare_drivers(quick, rounds)),
        "forward": (
            "Full forward, float32, ours / PyTorch eager",
            lambda: _forward(quick, passes, options.threads, models),
        ),
        "decode": ("Decoding of latents", lambda: _decode(quick, rounds, options.threads)),
        "metrics": (
            "Features of InceptionV3, float32, ours / PyTorch eager",
            lambda: metrics.measure(quick, rounds, options.threads),
        ),
        "compile": ("Cold compilation on this machine", lambda: compiling.measure(quick)),
        "h200": ("Compiled for an H200 (bfloat16, batch 4, guided)", lambda: _h200(quick)),
        "metrics-h200": ("Metrics compiled for an H200", lambda: metrics.measure_h200(quick)),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ("speedup", "texts", "hoisting", "methods", "deciding", "decisions", "scores")
    names = (*names, "drivers", "forward", "decode", "metrics", "compile", "h200")
    names = (*names, "metrics-h200")
    parser.add_argument("--sections", nargs="+", choices=names, default=names)
    parser.add_argument(
        "--models",
        nargs="+",
        default=[""],
        help="of the sections up to methods and deciding, decisions, forward: names that begin so",
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--rounds", type=int, help=f"default {ROUNDS}, forward {FORWARD_ROUNDS}")
    parser.add_argument("--threads", type=int, default=2, help="cores for both libraries")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    return parser


def main() -> None:
    """Runs the chosen sections and prints one table for each."""
    options = _parser().parse_args()
    # Before JAX starts its threads: it takes one for each core that it may use.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    machine = report.environment(options.threads)
    print("# Sampling benchmark\n")
    print(report.markdown(("machine", ""), list(machine.items())) + "\n", flush=True)
    results = {}
    sections = _sections(options)
    for name in options.sections:
        title, measure = sections[name]
        if missing := _missing(name):
            print(f"## {title}\n\nleft out; it needs: {missing}\n", flush=True)
            continue
        results[name] = measure()
        print(report.table(title, results[name]), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, **results}, indent=1))


if __name__ == "__main__":
    main()
