"""What every caching method costs in quality, beside fewer steps, on generated digits and clips.

One command, from the root of the repository,

    python -m benchmarks.caches [--models digits clips] [--plain RUN] [--seeds 0 1 2]
                                [--json FILE] [--picture FILE.png]

samples the bundled Skip-DiT of digits (100 pictures of each), the bundled Latte-skip of moving
digits (20 clips of each), and with --plain a model of digits without skips: every step computed;
by every caching method, at its settings whose FLOP ceilings come nearest to 1.5, 2 and 3; and in so
many fewer steps. A method without a setting within 15 % of a ceiling has no row for it. What the
threshold of a method that decides comes to is seen on a batch of its own; its row tells what it
then came to. All come from the same noise; with ddim, the default, fewer steps draw no other noise
on the way. Digits take 50 steps and clips 20, guidance is what each checkpoint recommends, unless
flags say otherwise. On two cores that do nothing else it takes about an hour and a half.

Columns:
  ceiling     FLOPs of the run without cache over those of this one
  s, speedup  median of one batch over interleaved rounds, and of how much faster it is
  PSNR, SSIM  mean over pictures or frames, to those without cache
  Fréchet     distance of a classifier's features, of frames of clips, to those of real ones
  asked       share in which the classifier sees the asked digit

Marks are means over seeds ± their standard deviation. SmoothCache and MagCache have even schedules
in place of calibrated ones. With --json a run that was ended goes on where it stood.
"""

import argparse
import functools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks import cache_figure, clips, quality, report
from benchmarks.cache_records import Ledger, Record, Row, cells, rows_of
from benchmarks.cache_settings import METHODS, PLAIN, TARGETS, Way, choose
from benchmarks.digit_models import (
    PICTURE,
    Subject,
    add_sampler_flags,
    facts,
    load_subject,
)
from benchmarks.timing import interleaved
from skipdit_jax.checkpoints.digests import digest
from skipdit_jax.cli.errors import told_in_one_line
from skipdit_jax.data.digits import NUM_CLASSES
from skipdit_jax.evaluation.fidelity import frames_of, psnr, ssim
from skipdit_jax.pipeline import sample_keys
from skipdit_jax.registry import DIGITS, MOVING_DIGITS, find_model

PROGRAM = "benchmarks.caches"
SEEDS = (0, 1, 2)
ROUNDS = 3
QUICK = {"per_class": 1, "seeds": [0], "rounds": 1, "steps": "6", "methods": ["Skip-Cache", "FORA"]}
COLUMNS = ("method", "setting", "computed + reused", "ceiling", "s", "speedup")
MARKS = ("PSNR dB", "SSIM", "Fréchet", "asked %")


class Material(NamedTuple):
    """What models make, and how it is drawn and judged.

    Attributes:
      frame: (H, W, C) of a picture or of a frame.
      steps: 50, for which most methods were published; 20 of clips, or two cores take hours.
      per_class: samples of each digit.
      batch: samples at a time; small ones stay in the caches of a processor.
      judge: makes, for a subject, what has `marks(samples, labels)`.
      accuracy: the mark that says in how many the asked digit is seen.
    """

    frame: tuple[int, ...]
    steps: str
    per_class: int
    batch: int
    judge: Callable[[Subject], Any]
    accuracy: str


MATERIALS = {
    "digits": Material(
        PICTURE, "50", quality.PER_CLASS, 50, lambda subject: quality.fit_judge(), "accuracy %"
    ),
    "clips": Material(
        clips.FRAME,
        "20",
        clips.PER_CLASS,
        10,
        lambda subject: clips.fit_judge(subject.model.config.num_frames),
        "clips %",
    ),
}


@dataclass(frozen=True)
class Job:
    """A model with the ways to sample it, and what is known of them."""

    subject: Subject
    material: Material
    ways: list[Way]
    labels: np.ndarray
    batch: int
    record: Record
    name: str

    @functools.cached_property
    def judge(self) -> Any:
        return self.material.judge(self.subject)


def make_jobs(flags: argparse.Namespace, ledger: Ledger) -> Iterator[Job]:
    """One job for each model; says of each which methods it cannot follow.

    Raises:
      ValueError: no such model, or the ledger has figures of other settings.
    """
    sources = [(name, getattr(flags, name), flags.methods) for name in flags.models]
    if flags.plain:
        sources.append(("digits", flags.plain, [m for m in flags.methods if m in PLAIN]))
    for name, source, methods in sources:
        material = MATERIALS[name]
        typed = {**vars(flags), "steps": flags.steps or material.steps}
        subject = load_subject(source, argparse.Namespace(**typed), material.frame)
        per_class = flags.per_class or material.per_class
        labels = np.repeat(np.arange(NUM_CLASSES, dtype=np.int32), per_class)
        batch = min(flags.batch or material.batch, len(labels))
        ways, left_out = choose(subject, methods, spread(labels, batch), flags.ceilings)
        for line in left_out:
            print(f"left out of {subject.name}, {line}", file=sys.stderr)
        settings = {
            "sampling": str(subject),
            "weights": digest(subject.params),
            "per class": per_class,
            "batch": batch,
            "device": f"{jax.devices()[0].device_kind}, jax {jax.__version__}",
        }
        record = ledger.record(subject.name, settings)
        yield Job(subject, material, ways, labels, batch, record, subject.name)


def spread(labels: np.ndarray, batch: int) -> np.ndarray:
    """So many of all labels, as even as can be: what a batch decides depends on what is in it."""
    return labels[np.linspace(0, len(labels) - 1, batch).round().astype(int)]


def time_ways(job: Job, rounds: int) -> None:
    """Times one batch of every way, in turn, unless that is known of all of them."""
    names = [way.case.name for way in job.ways]
    if set(names) <= set(job.record["seconds"]):
        return
    keys, labels = sample_keys(jax.random.key(0), 0, job.batch), spread(job.labels, job.batch)

    def call(way: Way) -> Callable[[], object]:
        sampler = way.case.sampler
        return lambda: jax.block_until_ready(sampler(job.subject.params, keys, labels))

    calls = {way.case.name: call(way) for way in job.ways}
    times = interleaved(calls, rounds, warm_ups=1)
    job.record["seconds"] = {name: timing.seconds for name, timing in times.items()}


def draw_ways(job: Job, seed: int) -> Iterator[str]:
    """Draws and judges what is not known of a seed; the name of each way when it is."""
    known = job.record["marks"]
    missing = [way.case for way in job.ways if str(seed) not in known.get(way.case.name, {})]
    if not missing:
        return
    full = job.ways[0].case
    reference, full_cost = full.draw_counted(job.labels, seed, job.batch)
    for case in missing:
        if case is full:
            samples, cost = reference, full_cost
        else:
            samples, cost = case.draw_counted(job.labels, seed, job.batch)
        marks = cost._asdict() | job.judge.marks(samples, job.labels)
        marks["asked %"] = marks.pop(job.material.accuracy)
        if case is not full:
            pair = frames_of(samples), frames_of(reference)
            marks |= {"PSNR dB": float(psnr(*pair).mean()), "SSIM": float(ssim(*pair).mean())}
        known.setdefault(case.name, {})[str(seed)] = marks
        yield case.name


def measure(jobs: Sequence[Job], flags: argparse.Namespace, ledger: Ledger) -> dict[str, list[Row]]:
    """Does what the ledger does not know, and sums up.

    Times come first: the machine must be quiet for no more than these.
    """
    start = time.perf_counter()

    def done(what: str) -> None:
        ledger.save()
        print(f"{time.perf_counter() - start:5.0f} s  {what}", file=sys.stderr, flush=True)

    for job in jobs:
        print(f"{job.name}: compiling and timing", file=sys.stderr, flush=True)
        time_ways(job, flags.rounds)
        done(f"{job.name}: timed")
    for job in jobs:
        for seed in flags.seeds:
            for name in draw_ways(job, seed):
                done(f"{job.name}, seed {seed}: {name}")
        job.record["rows"] = rows_of(job.ways, job.record, flags.seeds)
        ledger.save()
    return {job.name: job.record["rows"] for job in jobs}


def read_flags(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--models", nargs="*", choices=MATERIALS, default=list(MATERIALS))
    for name, bundled in (("digits", DIGITS), ("clips", MOVING_DIGITS)):
        add(f"--{name}", type=Path, default=find_model(bundled).weights, metavar="SOURCE")
    add("--plain", type=Path, metavar="SOURCE", help="a model of digits without skips")
    add("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    add("--ceilings", type=float, nargs="+", default=list(TARGETS), metavar="X")
    add("--seeds", type=int, nargs="+", default=list(SEEDS), metavar="SEED")
    add("--per-class", type=int, metavar="N", help="default 100, of clips 20")
    add("--batch", type=int, help="samples at a time")
    add("--rounds", type=int, default=ROUNDS, help="of timing")
    add_sampler_flags(parser)
    add("--json", type=Path, metavar="FILE", help="keep the figures here, and go on from them")
    add("--picture", type=Path, metavar="FILE.png", help="quality against FLOPs and seconds")
    add("--quick", action="store_true", help="does it run at all? its figures mean nothing")
    parser.set_defaults(method="ddim")
    if parser.parse_args(argv).quick:
        parser.set_defaults(**QUICK)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Prints one table for each model; exit code 2 and one line for bad input."""
    argv = sys.argv[1:] if argv is None else argv
    flags = read_flags(argv)
    with told_in_one_line(PROGRAM):
        sizes = (flags.per_class, flags.batch, flags.rounds)
        if min(*flags.ceilings, *(size for size in sizes if size is not None)) < 1:
            raise ValueError("--per-class, --batch, --rounds and --ceilings: wanted 1 or more")
        if flags.picture:
            cache_figure.check(flags.picture)
        ledger = Ledger.opened(flags.json)
        jobs = list(make_jobs(flags, ledger))
        ledger.facts = facts(PROGRAM, argv, [job.subject for job in jobs])
        ledger.save()
    results = measure(jobs, flags, ledger)
    print(report.markdown(("", ""), list(ledger.facts.items())), end="\n\n")
    for job in jobs:
        name, columns = job.name, (*COLUMNS, *MARKS)
        title = f"{name}: {len(job.labels)} samples, {len(flags.seeds)} seeds, batch {job.batch}"
        table = [cells(row, columns) for row in results[name]]
        print(f"## {title}\n\n{report.markdown(columns, table)}\n")
    if flags.picture:
        with told_in_one_line(PROGRAM):
            cache_figure.draw(results, flags.picture)


if __name__ == "__main__":
    main()
