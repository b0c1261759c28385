"""python -m skipdit_jax.cli.calibrate: how to set a cache, measured on a model.

  python -m skipdit_jax.cli.calibrate --model dit-digits --sampler ddim --speedup 2 --out fast.json
  python sample.py --model dit-digits --sampler ddim --cache fast.json

--method full-steps: the list of computed steps that moves samples least for the FLOPs that may be
spent, of Skip-Cache or of the method of --cache (a block cache). A few samples are drawn without
cache, and once more backwards, which tells for every step how far the result moves if it reuses
what an earlier one made: three times what the samples cost.

--method smooth: SmoothCache's schedule of attention and MLPs, by its authors' rule: from one
drawing without cache.

--method teacache: TeaCache's polynomial, from the same, and its threshold for the speedup, which is
found by trial: one of eight samples is drawn with one threshold after the other.

--method adacache: AdaCache's codebook, from the same, for the speedup, by trial.

--method mag: MagCache's ratios, from the same, and its threshold for the speedup.

--method threshold: that of --cache first-block, db-cache, seacache or easycache, by trial.

The file is for these weights, steps, sampler and guidance, and is refused for others. All other
flags are those of sample.py, and say what is sampled and how.
"""

import argparse
import dataclasses
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from skipdit_jax.caching import notation
from skipdit_jax.caching.calibrated import SUFFIX, Calibrated, MadeFor
from skipdit_jax.caching.plan import CachePolicy
from skipdit_jax.calibration.full_steps import OBJECTIVES, Batch, batches_of
from skipdit_jax.calibration.seconds import seconds_of_a_step
from skipdit_jax.checkpoints.digests import digest
from skipdit_jax.cli.build import draw_labels, prepare_sampling
from skipdit_jax.cli.calibration_common import Found, sampler_of
from skipdit_jax.cli.calibrations import METHODS
from skipdit_jax.cli.errors import OneLineParser, show_any_name, told_in_one_line
from skipdit_jax.cli.job import SamplingJob
from skipdit_jax.cli.numbers import positive
from skipdit_jax.cli.options import SampleOptions, parse
from skipdit_jax.cli.outputs import PICTURE, check_writable
from skipdit_jax.cli.runner import StepBar, use_compilation_cache
from skipdit_jax.pipeline import Sampler, sample_keys
from skipdit_jax.registry.samples import num_classes
from skipdit_jax.sampling.arguments import laid_out, run_of

PROGRAM = "skipdit_jax.cli.calibrate"
SAMPLES, BATCH = 128, 32
TIMED = 4  # steps of a run that is timed
MOST_SHOWN = 300  # letters of a cache


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
        method = METHODS[options.method].prepared(job, options)
    use_compilation_cache()
    uncached = job.settings._replace(cache=None).sampler(job.model)
    measured = method.measure(uncached, shown_batches(job))
    with told_in_one_line(PROGRAM):
        policy, found = method.choose(measured)
    made = calibrated(job, uncached, policy, found, typed.seed)
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
    spent.add_argument("--error", type=float, metavar="A", help="threshold of SmoothCache's rule")
    add("--method", choices=METHODS, default=next(iter(METHODS)), help="default: %(default)s")
    add("--objective", choices=OBJECTIVES, default=OBJECTIVES[0], help="of full-steps")
    add("--any-branch", action="store_true", help="of full-steps: choose its branch too")
    add("--samples", type=positive, default=SAMPLES, help="to measure on; default: %(default)s")
    add("--out", type=Path, required=True, metavar=f"FILE{SUFFIX}")
    return parser


def check_out(out: Path) -> None:
    """Raises ValueError where no file can be written, or --cache would not take it for one."""
    if out.suffix != SUFFIX:
        raise ValueError(f"--out {out}: wanted a name that ends in {SUFFIX}")
    check_writable("--out", out)


def with_samples(job: SamplingJob, typed: SampleOptions, count: int) -> SamplingJob:
    """The samples to measure on: what was typed, else so many of all classes."""
    if job.prompts is not None or typed.class_labels is not None:
        return job
    labels = draw_labels(typed.seed, count, num_classes(job.model))
    batch = min(typed.batch_size or BATCH, count)
    return dataclasses.replace(job, labels=labels, count=count, batch=batch)


def shown_batches(job: SamplingJob, shown: bool = True) -> Iterator[Batch]:
    """The samples of a job in batches of one size, with a bar if they are shown."""
    batch, bar = math.gcd(job.count, min(job.batch, BATCH)), StepBar(shown)
    with bar.shown(job.count // batch, "batches"):
        for one in batches_of(sample_keys(job.key, 0, job.count), job.given, batch):
            yield one
            bar.advance()


def seconds_of(job: SamplingJob, steps: int, ceiling: float) -> Found:
    """What a sample takes without cache, and what it is foretold to take with one.

    Steps are timed in a run of few without cache; those that reuse are taken to save seconds as
    they save FLOPs.
    """
    settings = job.settings
    few = laid_out(settings.diffusion, min(TIMED, steps), settings.steps)
    timed = settings._replace(cache=None, steps=few).sampler(job.model)
    keys, given = next(shown_batches(job, shown=False))
    full = steps * seconds_of_a_step(timed, job.params, keys, given) / len(keys)
    return {"seconds": full / ceiling, "seconds, no cache": full, "batch": len(keys)}


def calibrated(
    job: SamplingJob, uncached: Sampler, policy: CachePolicy, found: Found, seed: int
) -> Calibrated:
    """A policy with what it was made for, and what was found."""
    run = run_of(job.model, uncached.diffusion, uncached.guidance, uncached.inputs.t)
    made_for = MadeFor(
        digest=digest(job.params),
        num_stages=run.num_stages,
        num_skips=run.num_skips,
        timesteps=tuple(run.timesteps.tolist()),
        sampler=job.settings.method,
        guidance=float(uncached.guidance.scale),
    )
    summary = sampler_of(job, policy).summary(1)
    facts: Found = {"model": job.name, "samples": job.count, "seed": seed, "steps": summary.steps}
    if not summary.open:
        facts |= {"computed": summary.full_steps, "ceiling": summary.ceiling}
    facts |= found
    facts |= seconds_of(job, summary.steps, facts["ceiling"])
    return Calibrated(policy=policy, made_for=made_for, found=facts)


def described(made: Calibrated) -> str:
    """What was found, for people."""
    found, told = made.found, notation.write(made.policy)
    counted = f"{found['computed']} of " if "computed" in found else ""
    lines = [
        f"cache    {told if len(told) < MOST_SHOWN else f'{told[:MOST_SHOWN]}...'}",
        f"found    {counted}{found['steps']} steps"
        f"{' computed in full' * bool(counted)}, at most {found['ceiling']:.2f}x faster; "
        f"measured on {found['samples']} samples",
        f"seconds  {found['seconds']:.3g} a sample are foretold, {found['seconds, no cache']:.3g} "
        f"without cache, in batches of {found['batch']}",
    ]
    if "foretold" in found:
        ((name, best),) = found["foretold"].items()
        even = found["foretold, even"][name]
        lines.append(
            f"foretold {name} {best:.4g} to samples without cache; of as many steps at even "
            f"distances {even:.4g}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
