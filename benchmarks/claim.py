"""The claim, measured again: what caches cost on models of photographs, with and without skips.

One command, from the root of the repository,

    python -m benchmarks.claim --skip RUN... --plain RUN... --data-dir DIR [--json FILE]

samples models of CIFAR-10 (configs/cifar10_skip.py, and configs/cifar10_plain.py of as many FLOPs),
of which several trainings of each kind may be given: every step computed; by each method at its
settings nearest to 1.5, 2 and 3 times fewer FLOPs; by lists of computed steps searched by
calibration, on samples that are drawn for nothing else; and in fewer steps. DIR is where TFDS has
prepared `cifar10`; the judge of pictures is that of benchmarks/photographs.py.

Columns:
  ceiling           FLOPs of the run without cache over those of this one
  speedup           measured, of one batch, median over interleaved rounds
  PSNR, SSIM        to the samples of the same model without cache
  at equal FLOPs    PSNR above that of fewer steps of as many FLOPs, dB; these are interpolated
  at equal seconds  the same of fewer steps that take as long
  Fréchet           distance of AlexNet's last features to those of 5,000 real pictures
  asked class       share in which a linear classifier of AlexNet's features sees the asked class

Marks are means over trainings and seeds ± their standard deviation. With --json a run that was
ended goes on where it stood.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import cache_figure, cache_records, photographs, report
from benchmarks.cache_records import Ledger, Row, mean_and_spread
from benchmarks.cache_settings import FEWER, TARGETS, UNCACHED, choose
from benchmarks.caches import Job, Material, measure, spread
from benchmarks.digit_models import add_sampler_flags, facts, load_subject
from skipdit_jax.checkpoints.digests import digest
from skipdit_jax.cli.errors import told_in_one_line

PROGRAM = "benchmarks.claim"
METHODS = {
    "skip": (
        "Skip-Cache",
        "Skip-Cache, searched",
        "FORA",
        "TaylorSeer",
        "first-block cache",
        "ToCa",
    ),
    "plain": (
        "Delta-DiT",
        "block cache, searched",
        "FORA",
        "TaylorSeer",
        "first-block cache",
        "ToCa",
    ),
}
"""Kind of model -> methods; Delta-DiT is of models without skips."""
FEWER_AT = (1.25, 1.5, 2.0, 2.5, 3.0, 4.0)
BATCH, PER_CLASS, ROUNDS, SEEDS = 50, 30, 3, (0, 1)
QUICK = {"per_class": 1, "seeds": [0], "rounds": 1, "steps": "6"}
COLUMNS = ("method", "setting", "ceiling", "speedup")
GAINS = {"at equal FLOPs dB": "GFLOP", "at equal seconds dB": "s"}
MARKS = ("PSNR dB", "SSIM", *GAINS, "Fréchet", "asked class %")


def make_jobs(flags: argparse.Namespace, ledger: Ledger, judge: Any) -> Iterator[tuple[str, Job]]:
    """(kind, job) of each training.

    Raises:
      ValueError: no such model, or the ledger has figures of other settings.
    """
    labels = np.repeat(np.arange(photographs.CLASSES, dtype=np.int32), flags.per_class)
    batch = min(BATCH, len(labels))
    material = Material(photographs.FRAME, "50", PER_CLASS, BATCH, lambda s: judge, "asked class %")
    for kind, methods in METHODS.items():
        for number, source in enumerate(getattr(flags, kind)):
            subject = load_subject(source, flags, photographs.FRAME, photographs.CLASSES)
            ways, left_out = choose(subject, methods, spread(labels, batch), TARGETS, FEWER_AT)
            name = f"{kind}, training {number + 1}"
            for line in left_out:
                print(f"left out of {name}, {line}", file=sys.stderr)
            settings = {"sampling": str(subject), "weights": digest(subject.params)}
            settings |= {"per class": flags.per_class, "batch": batch}
            record = ledger.record(name, settings)
            yield kind, Job(subject, material, ways, labels, batch, record, name)


def rows_of_kind(jobs: Sequence[Job], seeds: Sequence[int]) -> list[Row]:
    """One row for each way, over all trainings of a kind; marks are (mean, spread)."""
    found: dict[tuple[str, float], list[Row]] = {}
    for job in jobs:
        seconds = {n: float(np.median(r)) for n, r in job.record["seconds"].items()}
        whole = seconds[job.ways[0].case.name]
        for seed in seeds:
            marks = {n: of[str(seed)] for n, of in job.record["marks"].items()}
            fewer = _curve(job, marks, seconds)
            for way in job.ways:
                name = way.case.name
                row = {**marks[name], "s": seconds[name], "speedup": whole / seconds[name]}
                row |= {"GFLOP": row.pop("gflop"), "setting": name}
                row["ceiling"] = marks[job.ways[0].case.name]["gflop"] / row["GFLOP"]
                row["asked class %"] = row.pop("asked %")
                row |= _gains(row, fewer) if way.method not in (UNCACHED, FEWER) else {}
                found.setdefault((way.method, way.target), []).append(row)
    return [_summed(method, rows) for (method, _), rows in found.items()]


def _curve(job: Job, marks: dict[str, Row], seconds: dict[str, float]) -> list[Row]:
    """Cost and PSNR of runs of fewer steps, the cheapest first."""
    names = [way.case.name for way in job.ways if way.method == FEWER]
    points = [
        {"GFLOP": marks[n]["gflop"], "s": seconds[n], "PSNR dB": marks[n]["PSNR dB"]} for n in names
    ]
    return sorted(points, key=lambda point: point["GFLOP"])


def _gains(row: Row, fewer: Sequence[Row]) -> Row:
    """PSNR above that of fewer steps of equal cost, between those that were drawn; else NaN."""
    gains = {}
    for gain, cost in GAINS.items():
        costs, psnrs = (np.array([point[name] for point in fewer]) for name in (cost, "PSNR dB"))
        order = np.argsort(costs)
        inside = costs.min() <= row[cost] <= costs.max()
        at = np.interp(np.log(row[cost]), np.log(costs[order]), psnrs[order])
        gains[gain] = row["PSNR dB"] - float(at) if inside else float("nan")
    return gains


def _summed(method: str, rows: Sequence[Row]) -> Row:
    settings = dict.fromkeys(row["setting"] for row in rows)
    summed: Row = {"method": method, "setting": "; ".join(settings)}
    for name in ("ceiling", "speedup", "GFLOP", "s"):
        summed[name] = float(np.mean([row[name] for row in rows]))
    for name in MARKS:
        values = [row[name] for row in rows if np.isfinite(row.get(name, np.nan))]
        if values:
            summed[name] = mean_and_spread(values)
    return summed


def cells(row: Row) -> list[object]:
    """What a line of the table shows."""
    return cache_records.cells(row, (*COLUMNS, *MARKS))


def read_flags(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    for kind in METHODS:
        add(f"--{kind}", type=Path, nargs="+", default=[], metavar="RUN", help="of each training")
    add("--data-dir", type=Path, required=True, metavar="DIR", help="where TFDS has cifar10")
    add("--seeds", type=int, nargs="+", default=list(SEEDS), metavar="SEED")
    add("--per-class", type=int, default=PER_CLASS, metavar="N")
    add("--rounds", type=int, default=ROUNDS, help="of timing")
    add_sampler_flags(parser)
    add("--json", type=Path, metavar="FILE", help="keep the figures here, and go on from them")
    add("--picture", type=Path, metavar="FILE.png", help="quality against FLOPs and seconds")
    add("--quick", action="store_true", help="does it run at all? its figures mean nothing")
    parser.set_defaults(method="ddim", steps="50")
    if parser.parse_args(argv).quick:
        parser.set_defaults(**QUICK)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Prints one table for each kind of model; exit code 2 and one line for bad input."""
    argv = sys.argv[1:] if argv is None else argv
    flags = read_flags(argv)
    with told_in_one_line(PROGRAM):
        if flags.picture:
            cache_figure.check(flags.picture)
        ledger = Ledger.opened(flags.json)
        judge = photographs.fit_judge(flags.data_dir)
        jobs = list(make_jobs(flags, ledger, judge))
        told = facts(PROGRAM, argv, [job.subject for _, job in jobs])
        ledger.facts = told | {"judge": f"right of {100 * judge.accuracy:.1f} % of real pictures"}
        ledger.save()
    measure([job for _, job in jobs], flags, ledger)
    print(report.markdown(("", ""), list(ledger.facts.items())), end="\n\n")
    tables = {}
    for kind in dict.fromkeys(kind for kind, _ in jobs):
        of_kind = [job for found, job in jobs if found == kind]
        tables[kind] = rows_of_kind(of_kind, flags.seeds)
        drawn = len(of_kind[0].labels)
        title = f"{kind}: {len(of_kind)} trainings, {len(flags.seeds)} seeds of {drawn} samples"
        lines = [cells(row) for row in tables[kind]]
        print(f"## {title}\n\n{report.markdown((*COLUMNS, *MARKS), lines)}\n")
    if flags.picture:
        cache_figure.draw(tables, flags.picture)


if __name__ == "__main__":
    main()
