"""python -m skipdit_jax.cli.stability: how smooth features are, and what a cache makes of it.

  python -m skipdit_jax.cli.stability --model dit-digits --sampler ddim --out FOLDER
  python -m skipdit_jax.cli.stability --model dit-digits --beside plain.safetensors --out FOLDER

In FOLDER: similarity (of each block's features at neighbouring steps, heat maps), surface (of the
training loss and of the feature that Skip-Cache reuses, around the weights, along two random
directions), spectra (spectral norms of skip linears), cache_error (foretold to first order against
measured), as figures; the numbers in stability.npz, facts and summaries in stability.json.

--beside measures further models in the same way and draws them side by side, such as the plain twin
of a skip model. All other flags are those of sample.py, and say what is sampled and how.
"""

import argparse
import dataclasses
import functools
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skipdit_jax import registry
from skipdit_jax.caching.calibrated import Calibrated
from skipdit_jax.calibration.cache_errors import lists_of
from skipdit_jax.calibration.full_steps import batches_of, span_of
from skipdit_jax.calibration.similarity import deep_stage
from skipdit_jax.cli.build import prepare_sampling
from skipdit_jax.cli.calibrate import BATCH, with_samples
from skipdit_jax.cli.calibrations import OF_BLOCKS, OF_SKIPS, sampler_of
from skipdit_jax.cli.errors import OneLineParser, show_any_name, told_in_one_line
from skipdit_jax.cli.job import SamplingJob
from skipdit_jax.cli.machine import command
from skipdit_jax.cli.numbers import finite, natural, positive
from skipdit_jax.cli.options import SampleOptions, parse
from skipdit_jax.cli.outputs import PICTURE, check_writable
from skipdit_jax.cli.runner import use_compilation_cache
from skipdit_jax.cli.stability_outputs import described, names, write
from skipdit_jax.cli.stability_report import Asked, measure_report
from skipdit_jax.diffusion.schedules import FLOW
from skipdit_jax.pipeline import sample_keys
from skipdit_jax.visualise import stability as figures

PROGRAM = "skipdit_jax.cli.stability"
SAMPLES, POINTS, SPAN, DRAWN = 32, 15, 0.5, 8
EVERY = (2, 3, 4, 5)
TIMES = (0.1, 0.5, 0.9)  # of the training process, where surfaces are taken
FEWEST = 3  # points of a side: the weights as they are, and one on either side


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
      argv: the flags, without the program's name; None for those of the process.

    Returns:
      The exit code, 0.

    Raises:
      SystemExit: with code 2 for bad input.
    """
    show_any_name()
    with told_in_one_line(PROGRAM):
        options, others = make_parser().parse_known_args(argv)
        check_out(options)
        typed = parse([*others, "--out", str(options.out / f"any{PICTURE}")])
        jobs = prepared(typed, options)
    use_compilation_cache()
    reports = {}
    for name, (job, asked) in jobs.items():
        size = math.gcd(job.count, BATCH)
        batches = list(batches_of(sample_keys(job.key, 0, job.count), job.given, size))
        report = measure_report(job, asked, batches, functools.partial(print, f"{name}:"))
        reports[name] = job, asked, report
    with told_in_one_line(PROGRAM):
        run = {"command": command(f"python -m {PROGRAM}", argv), "seed": typed.seed}
        written = write(options.out, options.format, reports, run)
    print(described(reports))
    print(f"written  {', '.join(map(str, written))}")
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of this program's own flags; what it does not know is sample.py's."""
    parser = OneLineParser(prog=f"python -m {PROGRAM}", description=__doc__)
    add = parser.add_argument
    add(
        "--beside",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="further models: a name, weights, or NAME=WEIGHTS; --cache is not for them",
    )
    add("--samples", type=positive, default=SAMPLES, help="to measure on; default: %(default)s")
    add("--at", type=natural, nargs="+", metavar="T", help="timesteps of the surfaces")
    add("--span", type=finite, default=SPAN, help="surfaces reach so far; default: %(default)s")
    add("--points", type=positive, default=POINTS, help="along a side; default: %(default)s")
    add("--every", type=positive, nargs="+", default=EVERY, metavar="N", help="caches to foretell")
    add("--random", type=natural, default=DRAWN, help="lists of steps; default: %(default)s")
    add("--format", choices=figures.FORMATS, default=figures.FORMATS[0], help="of the figures")
    add("--out", type=Path, required=True, metavar="FOLDER")
    return parser


def check_out(options: argparse.Namespace) -> None:
    """Raises ValueError where a file cannot be written or drawn, or numbers make no surface."""
    for name in names(options.format):
        check_writable("--out", options.out / name)
    figures.check_drawable("--out")
    if not options.span > 0:
        raise ValueError(f"--span {options.span:g}: wanted a number above 0")
    if options.points < FEWEST or options.points % 2 == 0:
        raise ValueError(f"--points {options.points}: wanted an odd number from {FEWEST} on")


def prepared(
    typed: SampleOptions, options: argparse.Namespace
) -> dict[str, tuple[SamplingJob, Asked]]:
    """All models, loaded, and what is measured of them; by their names.

    Raises:
      ValueError: (or CheckpointError, OSError) whatever the user has to mend, in one line.
    """
    jobs: dict[str, tuple[SamplingJob, Asked]] = {}
    for one in (typed, *(another(typed, told) for told in options.beside)):
        job = with_samples(prepare_sampling(one), one, options.samples)
        usual = OF_SKIPS if job.model.num_skips else OF_BLOCKS
        cached = sampler_of(job, (one.cache and job.settings.cache) or usual)
        policy = cached.cache.policy if isinstance(cached.cache, Calibrated) else cached.cache
        assert policy is not None
        span_of(cached)
        lists = lists_of(len(cached.inputs.t), options.every, options.random, one.seed)
        sides = np.linspace(-options.span, options.span, options.points)
        asked = Asked(policy, lists, times(job, options.at), sides, one.seed)
        name = job.name if job.name not in jobs else f"{job.name} ({len(jobs) + 1})"
        jobs[name] = job, asked
    return jobs


def another(typed: SampleOptions, told: str) -> SampleOptions:
    """What was typed, of a model of --beside."""
    name, equals, source = told.partition("=")
    if not equals:
        name, source = (told, "") if told in registry.BUNDLED else ("", told)
    changed: dict[str, Any] = {"model": name or None, "ckpt": source or None, "cache": None}
    return dataclasses.replace(typed, **changed, weights=None, key=None, prefix=None)


def times(job: SamplingJob, at: Sequence[int] | None) -> np.ndarray:
    """Where surfaces are taken, as indices of the training process.

    Raises:
      ValueError: there are none, or the process has no training loss that is known here.
    """
    diffusion = job.settings.diffusion
    if diffusion.prediction == FLOW:
        raise ValueError(f"--model {job.name}: is a flow, wanted a process with betas for surfaces")
    if deep_stage(job.model.num_stages) < 0:
        raise ValueError(f"--model {job.name}: found one block, wanted two or more")
    steps = diffusion.num_steps
    found = [int(share * steps) for share in TIMES] if at is None else list(at)
    if max(found) >= steps:
        raise ValueError(f"--at {max(found)}: wanted 0 to {steps - 1}")
    return np.array(found, np.int32)


if __name__ == "__main__":
    sys.exit(main())
