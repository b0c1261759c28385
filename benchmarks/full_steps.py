"""What a searched list of computed steps is worth, beside even ones, on fresh samples.

One command, from the root of the repository,

    python -m benchmarks.full_steps [--models digits clips] [--method ddim] [--json FILE]

calibrates Skip-Cache on --samples samples of each bundled model, for as many computed steps as even
intervals of --every (N = 2, 3, 4, 6) have, and draws --count others with each of --seeds: with
every N-th step, with the list whose gaps together move the result least (what `cli.calibrate`
writes), with the cheapest list of gaps that add up by themselves, and with LeMiCa's minimax list.

Columns:
  foretold  PSNR to samples without cache, to first order, on the samples of the calibration
  PSNR      the same of fresh samples: mean over these, then mean ± standard deviation over seeds
  gain      of their means, against even steps
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

import skipdit_jax as sd
from benchmarks import clips, report
from benchmarks.digit_models import (
    PICTURE,
    Case,
    Row,
    Subject,
    add_sampler_flags,
    facts,
    load_subject,
)
from skipdit_jax.caching.plan import CachePolicy
from skipdit_jax.calibration import full_steps
from skipdit_jax.calibration.search import cheapest, error_of, gap_costs, minimax
from skipdit_jax.checkpoints.atomic import replacing_file
from skipdit_jax.cli.calibrate import BATCH, SAMPLES
from skipdit_jax.cli.calibration_common import PEAK
from skipdit_jax.cli.errors import told_in_one_line
from skipdit_jax.data.digits import NUM_CLASSES
from skipdit_jax.evaluation.fidelity import frames_of, psnr
from skipdit_jax.pipeline import sample_keys
from skipdit_jax.registry import DIGITS, MOVING_DIGITS, find_model

PROGRAM = "benchmarks.full_steps"
MODELS = {"digits": (DIGITS, PICTURE), "clips": (MOVING_DIGITS, clips.FRAME)}
INTERVALS = (2, 3, 4, 6)
EVEN = "even"
LISTS = ("searched", "cheapest gaps", "minimax")
SEEDS = (0, 1, 2)
FIRST_SEED = 1000  # of the calibration: none of the fresh samples'


def lists_of(effects: np.ndarray, every: int) -> dict[str, tuple[int, ...]]:
    """Every N-th step, and as many in each other way."""
    costs, even = gap_costs(effects), tuple(range(0, len(effects), every))
    full = len(even)
    return {
        EVEN: even,
        "searched": full_steps.choose_full_steps(effects, full).full,
        "cheapest gaps": cheapest(costs, full),
        "minimax": minimax(costs, full),
    }


def effects_of(
    subject: Subject, samples: int, lags: int, cache: CachePolicy | str = "N2"
) -> np.ndarray:
    """Measured as `cli.calibrate` does, at most so many samples at a time."""
    case = Case("", subject, {"cache": "none"})
    cached = Case("", subject, {"cache": cache}).sampler
    keys = sample_keys(jax.random.key(FIRST_SEED), 0, samples)
    labels = np.arange(samples, dtype=np.int32) % NUM_CLASSES
    (effects,) = full_steps.measure(
        sd.Sampler(subject.model, **{**subject.options, **case.changes}),
        subject.params,
        full_steps.batches_of(keys, labels, math.gcd(samples, BATCH)),
        spans=[full_steps.span_of(cached)],
        lags=lags,
    )
    return effects


def measure(subject: Subject, flags: argparse.Namespace) -> Iterator[Row]:
    """A row for each N and list."""
    labels = np.arange(flags.count, dtype=np.int32) % NUM_CLASSES
    uncached = Case("", subject, {"cache": "none"})
    full = {seed: uncached.draw(labels, seed, flags.batch) for seed in flags.seeds}
    steps = len(uncached.sampler.inputs.t)
    fewest = -(-steps // max(flags.every))
    effects = effects_of(subject, flags.samples, full_steps.lags_for(steps, fewest))
    for every in flags.every:
        even = None
        for name, chosen in lists_of(effects, every).items():
            if name not in (EVEN, *flags.lists):
                continue
            case = Case("", subject, {"cache": sd.SkipCache(full=chosen)})
            marks = []
            for seed, reference in full.items():
                samples = case.draw(labels, seed, flags.batch)
                marks.append(float(psnr(frames_of(samples), frames_of(reference)).mean()))
            mean = error_of(effects, chosen) / math.prod(subject.model.sample_shape)
            even = np.mean(marks) if even is None else even
            yield {
                "N": every,
                "computed": f"{len(chosen)} of {steps}",
                "list": name,
                "foretold dB": 10 * math.log10(PEAK**2 / mean),
                "PSNR dB": f"{np.mean(marks):.2f} ± {np.std(marks, ddof=len(marks) > 1):.2f}",
                "gain dB": float(np.mean(marks) - even),
                "steps": " ".join(map(str, chosen)),
            }


def read_flags(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--models", nargs="+", choices=MODELS, default=list(MODELS))
    for name, (bundled, _) in MODELS.items():
        add(f"--{name}", type=Path, default=find_model(bundled).weights, metavar="SOURCE")
    add("--every", type=int, nargs="+", default=list(INTERVALS), metavar="N")
    add("--lists", nargs="+", choices=LISTS, default=list(LISTS), help="besides even steps")
    add("--samples", type=int, default=SAMPLES, help="of the calibration")
    add("--count", type=int, default=100, help="fresh samples of each seed")
    add("--seeds", type=int, nargs="+", default=list(SEEDS))
    add("--batch", type=int, default=50)
    add_sampler_flags(parser)
    add("--json", type=Path, metavar="FILE")
    parser.set_defaults(method="ddim")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Prints one table for each model; exit code 2 and one line for bad input."""
    argv = sys.argv[1:] if argv is None else argv
    flags = read_flags(argv)
    with told_in_one_line(PROGRAM):
        subjects = {
            name: load_subject(getattr(flags, name), flags, MODELS[name][1])
            for name in flags.models
        }
    told = facts(PROGRAM, argv, subjects.values())
    print(report.markdown(("", ""), list(told.items())) + "\n", flush=True)
    tables = {}
    for name, subject in subjects.items():
        tables[name] = list(measure(subject, flags))
        print(report.table(f"{name}: {flags.count} samples of each seed", tables[name]), flush=True)
    if flags.json:
        with replacing_file(flags.json) as file:
            file.write(json.dumps({"facts": told, "tables": tables}, indent=1).encode())


if __name__ == "__main__":
    main()
