"""What caching costs in quality, on 1,000 generated digits.

One command, from the root of the repository,

    python -m benchmarks.quality --plain RUN_PLAIN [--skip RUN_SKIP] [--json FILE]

draws 100 pictures of each digit with the bundled Skip-DiT (or --skip: a native checkpoint or a run
folder), and with its plain twin if --plain names one: every step computed; cached with N = 2, 3, 4;
and without cache in the fewer steps that the FLOPs of each cached run pay for. All of a model come
from the same initial noise; the later noise of ddpm differs where the number of steps does.

The skip model is cached by Skip-Cache (k = 1, start 1000, stop 20), the plain twin on the same
schedule by two baselines: "blocks 1..U-2" keeps what the middle blocks added, and so computes as
many blocks as Skip-Cache (as Delta-DiT does); "all blocks" keeps what all of them added, so that a
cached step costs next to nothing (as FORA does).

Columns:
  ceiling      FLOPs of the run without cache over those of this one
  accuracy     share in which a classifier of real digits sees the asked digit
  Fréchet      distance of its features to those of the real test split; small sets overstate it:
               compare with as many real training pictures
  to training  mean over pictures of the root mean square difference to the nearest training
               picture; far below that of the test split, pictures are memorised
  PSNR         mean over pictures, to those of the same model without cache

Steps, guidance and so on are those that each checkpoint recommends, unless flags say otherwise.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import report
from benchmarks.digit_models import (
    PICTURE,
    Row,
    Subject,
    add_flags,
    examined,
    facts,
    load_subject,
    make_cases,
)
from skipdit_jax.caching.intervals import ALWAYS
from skipdit_jax.caching.methods.skip_cache import PUBLISHED_STOP
from skipdit_jax.checkpoints.atomic import replacing_file
from skipdit_jax.cli.errors import told_in_one_line
from skipdit_jax.data.digits import NUM_CLASSES, Digits, load_digits
from skipdit_jax.evaluation.distances import frechet_of_features
from skipdit_jax.evaluation.judges.digits import DigitClassifier, fit_digit_classifier
from skipdit_jax.registry import DIGITS, find_model

PER_CLASS = 100
BATCH = 250
PROGRAM = "benchmarks.quality"


class Judge(NamedTuple):
    """Real digits and a classifier of them, against which pictures are held."""

    classifier: DigitClassifier
    train: Digits
    test: Digits

    def marks(self, images: np.ndarray, labels: np.ndarray) -> Row:
        """What can be said of pictures by themselves."""
        real = self.classifier.features(self.test.images)
        return {
            "accuracy %": 100 * self.classifier.accuracy(images, labels),
            "Fréchet": frechet_of_features(self.classifier.features(images), real),
            "to training": float(to_nearest(images, self.train.images).mean()),
        }


def fit_judge() -> Judge:
    """Reads the real digits and fits the classifier; takes a few seconds."""
    return Judge(fit_digit_classifier(), load_digits("train"), load_digits("test"))


def to_nearest(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Root mean square difference of each picture to the nearest of the others, [n]."""
    a = images.reshape(len(images), -1).astype(np.float64)
    b = others.reshape(len(others), -1).astype(np.float64)
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T
    return np.sqrt(np.maximum(squares.min(axis=1), 0) / a.shape[1])


def examine(subject: Subject, judge: Judge, flags: argparse.Namespace) -> Iterator[Row]:
    """One row for each way to sample, the run without cache first."""
    labels = np.repeat(np.arange(NUM_CLASSES, dtype=np.int32), flags.per_class)
    marks = partial(judge.marks, labels=labels)
    settings = {"seed": flags.seed, "batch": flags.batch}
    for row in examined(make_cases(subject, flags), labels, marks, PICTURE, **settings):
        yield {"model": subject.name, **row}


def real_rows(judge: Judge, per_class: int) -> Iterator[Row]:
    """The same marks of real pictures, among them as many as were generated."""
    train, test = judge.train, judge.test
    few = np.concatenate(
        [_spread(np.flatnonzero(train.labels == label), per_class) for label in range(NUM_CLASSES)]
    )
    sets = (
        (f"{len(few)} of the training split", Digits(train.images[few], train.labels[few])),
        (f"training split, {len(train.labels)}", train),
        (f"test split, {len(test.labels)}", test),
    )
    blank = {"computed + reused": "", "ceiling": ""}
    for name, digits in sets:
        marks = judge.marks(*digits)
        if digits is test:
            marks["Fréchet"] = ""  # 0 but for rounding
        yield {"model": "real digits", "sampling": name, **blank, **marks, "PSNR dB": ""}


def _spread(items: np.ndarray, count: int) -> np.ndarray:
    """At most `count` items, evenly spaced: neighbours often come from one writer."""
    count = min(count, len(items))
    return items[np.arange(count) * len(items) // count]


def read_flags(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    bundled = find_model(DIGITS).weights
    parser.add_argument("--skip", type=Path, default=bundled, metavar="SOURCE")
    parser.add_argument("--plain", type=Path, metavar="SOURCE", help="the plain twin")
    add_flags(parser, per_class=PER_CLASS, batch=BATCH, start=ALWAYS, stop=PUBLISHED_STOP)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Prints one table; exit code 2 and one line for bad input."""
    argv = sys.argv[1:] if argv is None else argv
    flags = read_flags(argv)
    with told_in_one_line(PROGRAM):
        if min(flags.per_class, flags.batch) < 1:
            raise ValueError("--per-class and --batch: wanted 1 or more")
        sources = [flags.skip, flags.plain] if flags.plain else [flags.skip]
        subjects = [load_subject(source, flags) for source in sources]
        for subject in subjects:
            make_cases(subject, flags)
        judge = fit_judge()
    told = {"seed": flags.seed, **facts(PROGRAM, argv, subjects)}
    rows = [row for subject in subjects for row in examine(subject, judge, flags)]
    rows += real_rows(judge, flags.per_class)
    print(report.markdown(("", ""), list(told.items())), end="\n\n")
    print(report.markdown(list(rows[0]), [list(row.values()) for row in rows]))
    if flags.json:
        with told_in_one_line(PROGRAM), replacing_file(flags.json) as file:
            file.write(json.dumps({"facts": told, "rows": rows}, indent=1).encode())


if __name__ == "__main__":
    main()
