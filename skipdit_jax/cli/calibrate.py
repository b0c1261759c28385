"""python -m skipdit_jax.cli.calibrate: which steps to compute, measured on a model.

Draws a few samples without cache, and once more backwards, which tells for every step how far the
result moves if it reuses what an earlier one made. From that comes the list of computed steps that
moves it least, for the FLOPs that may be spent; it goes to a file that --cache takes:

  python -m skipdit_jax.cli.calibrate --model dit-digits --sampler ddim --speedup 2 --out fast.json
  python sample.py --model dit-digits --sampler ddim --cache fast.json

The file is for these weights, steps, sampler and guidance, and is refused for others. All other
flags are those of sample.py, and say what is sampled and how. Three times what the samples cost.
"""

import argparse
import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skipdit_jax.caching import notation
from skipdit_jax.caching.calibrated import SUFFIX, Calibrated, MadeFor
from skipdit_jax.caching.plan import CachePolicy, Span
from skipdit_jax.caching.summary import CacheSummary
from skipdit_jax.calibration import full_steps
from skipdit_jax.calibration.full_steps import OBJECTIVES, Choice
from skipdit_jax.checkpoints.digests import digest
from skipdit_jax.cli.build import draw_labels, prepare_sampling
from skipdit_jax.cli.errors import OneLineParser, show_any_name, told_in_one_line
from skipdit_jax.cli.job import SamplingJob
from skipdit_jax.cli.numbers import positive
from skipdit_jax.cli.options import SampleOptions, parse
from skipdit_jax.cli.outputs import PICTURE, check_writable
from skipdit_jax.cli.runner import StepBar, use_compilation_cache
from skipdit_jax.pipeline import Sampler, sample_keys
from skipdit_jax.registry.samples import draws_pixels, num_classes
from skipdit_jax.sampling.arguments import run_of

PROGRAM = "skipdit_jax.cli.calibrate"
SAMPLES, BATCH = 64, 32
PEAK = 2.0  # of pictures in [-1, 1]
OF_SKIPS, OF_BLOCKS = "N2", "block-cache(every=2)"  # of models with long skips, and without


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
        check_out(options.out)
        typed = parse([*others, "--out", str(options.out.with_suffix(PICTURE))])
        job = with_samples(prepare_sampling(typed), typed, options.samples)
        cached = with_cache(job)
        span, full = full_steps.span_of(cached), budget(options, cached.summary(1))
    use_compilation_cache()
    uncached = job.settings._replace(cache=None).sampler(job.model)
    lags = full_steps.lags_for(len(uncached.inputs.t), full)
    effects = measured(job, uncached, span, lags)
    assert cached.cache is not None
    choice = full_steps.choose_full_steps(effects, full, options.objective)
    made = calibrated(job, uncached, cached.cache, choice)
    with told_in_one_line(PROGRAM):
        made.save(options.out)
    print(described(made))
    print(f"written  {options.out}")
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of this program's own flags; what it does not know is sample.py's."""
    parser = OneLineParser(prog=f"python -m {PROGRAM}", description=__doc__)
    add = parser.add_argument
    spent = parser.add_mutually_exclusive_group(required=True)
    spent.add_argument("--speedup", type=float, metavar="X", help="by FLOPs")
    spent.add_argument("--budget", type=float, metavar="SHARE", help="of the FLOPs without cache")
    spent.add_argument("--full", type=positive, metavar="M", help="computed steps")
    spent.add_argument("--like", action="store_true", help="as many FLOPs as --cache takes")
    add("--objective", choices=OBJECTIVES, default=OBJECTIVES[0], help="see docs/caching.md")
    add("--samples", type=positive, default=SAMPLES, help="to measure on; default: %(default)s")
    add("--out", type=Path, required=True, metavar=f"FILE{SUFFIX}")
    return parser


def check_out(out: Path) -> None:
    """Raises ValueError where no file can be written, or --cache would not take it for one."""
    if out.suffix != SUFFIX:
        raise ValueError(f"--out {out}: wanted a name that ends in {SUFFIX}")
    check_writable("--out", out)


def with_cache(job: SamplingJob) -> Sampler:
    """The sampler with --cache, else with what is usual for the model.

    Raises:
      ValueError: the model cannot follow it.
    """
    usual = OF_SKIPS if job.model.num_skips else OF_BLOCKS
    cache = usual if job.settings.cache is None else job.settings.cache
    return Sampler(job.model, **{**job.settings._asdict(), "cache": cache})


def budget(options: argparse.Namespace, summary: CacheSummary) -> int:
    """How many steps may be computed.

    Raises:
      ValueError: more or fewer than there are, or than the method allows.
    """
    if options.full is not None:
        if options.full > summary.steps:
            raise ValueError(f"--full {options.full}: wanted at most {summary.steps}")
        return options.full
    if options.like:
        return summary.full_steps
    if options.budget is not None and not 0 < options.budget <= 1:
        raise ValueError(f"--budget {options.budget:g}: wanted a share of 1")
    speedup = options.speedup if options.budget is None else 1 / options.budget
    return full_steps.computed_steps(summary, speedup)


def with_samples(job: SamplingJob, typed: SampleOptions, count: int) -> SamplingJob:
    """The samples to measure on: what was typed, else so many of all classes."""
    if job.prompts is not None or typed.class_labels is not None:
        return job
    labels = draw_labels(typed.seed, count, num_classes(job.model))
    return dataclasses.replace(job, labels=labels, count=count)


def measured(job: SamplingJob, uncached: Sampler, span: Span, lags: int) -> Any:
    """Effects on the samples of a job, with a bar."""
    batch = math.gcd(job.count, BATCH)
    bar = StepBar()
    with bar.shown(job.count // batch, "batches"):
        return full_steps.measure(
            uncached,
            job.params,
            sample_keys(job.key, 0, job.count),
            job.given,
            span=span,
            lags=lags,
            batch=batch,
            done=bar.advance,
        )


def calibrated(
    job: SamplingJob, uncached: Sampler, policy: CachePolicy, choice: Choice
) -> Calibrated:
    """The policy of a choice, with what it was made for and what was foretold of it."""
    run = run_of(job.model, uncached.diffusion, uncached.guidance, uncached.inputs.t)
    made_for = MadeFor(
        digest=digest(job.params),
        num_stages=run.num_stages,
        num_skips=run.num_skips,
        timesteps=tuple(run.timesteps.tolist()),
        sampler=job.settings.method,
        guidance=float(uncached.guidance.scale),
    )
    chosen = full_steps.with_full_steps(policy, choice.full)
    summary = Sampler(job.model, **{**job.settings._asdict(), "cache": chosen}).summary(1)
    found: dict[str, Any] = {
        "model": job.name,
        "computed": len(choice.full),
        "steps": run.steps,
        "ceiling": summary.ceiling,
        "samples": job.count,
    }
    for name, error in (("foretold", choice.error), ("foretold, even", choice.even)):
        found[name] = mark(job, error)
    return Calibrated(policy=chosen, made_for=made_for, found=found)


def mark(job: SamplingJob, error: float) -> dict[str, float]:
    """A squared distance as people read it: PSNR of pictures, the root mean square of latents."""
    mean = error / math.prod(job.model.sample_shape)
    if draws_pixels(job.model):
        return {"PSNR dB": math.inf if mean == 0 else 10 * math.log10(PEAK**2 / mean)}
    return {"rms": math.sqrt(mean)}


def described(made: Calibrated) -> str:
    """What was found, for people."""
    found = made.found
    ((name, best),) = found["foretold"].items()
    even = found["foretold, even"][name]
    return (
        f"cache    {notation.write(made.policy)}\n"
        f"found    {found['computed']} of {found['steps']} steps computed, at most "
        f"{found['ceiling']:.2f}x faster; to samples without cache {name} {best:.4g} foretold, of "
        f"as many steps at even distances {even:.4g} ({found['samples']} samples)"
    )


if __name__ == "__main__":
    sys.exit(main())
