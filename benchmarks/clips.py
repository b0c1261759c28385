"""What caching costs in quality, on generated clips of moving digits.

One command, from the root of the repository,

    python -m benchmarks.clips [--source FILE_OR_RUN] [--json FILE]

draws clips of each digit with the bundled Latte-skip (or --source): every step computed; cached
with N = 2, 3, 4 as published for class to video (k = 1, start 900, stop 49); and without cache in
the fewer steps that the FLOPs of each cached run pay for. All come from the same initial noise.

Columns:
  ceiling   FLOPs of the run without cache over those of this one
  clips     share in which most frames show the asked digit to a classifier of real clips
  frames    share of the frames that do
  Fréchet   distance of the classifier's features of frames to those of real clips
  speed     mean way of the centre of ink from frame to frame, pixels
  PSNR      mean over clips, to those without cache
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
    Row,
    Subject,
    add_flags,
    examined,
    facts,
    load_subject,
    make_cases,
)
from skipdit_jax.caching.presets import LATTE_SKIP_CACHE
from skipdit_jax.checkpoints.atomic import replacing_file
from skipdit_jax.cli.errors import told_in_one_line
from skipdit_jax.data.digits import NUM_CLASSES
from skipdit_jax.data.moving_digits import CANVAS, MovingDigits, load_moving_digits
from skipdit_jax.evaluation.distances import frechet_of_features
from skipdit_jax.evaluation.judges.moving_digits import ClipJudge, fit_clip_judge, speeds
from skipdit_jax.registry import MOVING_DIGITS, find_model

PER_CLASS = 20
BATCH = 50
PROGRAM = "benchmarks.clips"
FRAME = (CANVAS, CANVAS, 1)


class Judge(NamedTuple):
    """Real clips and a classifier of them, against which clips are held."""

    classifier: ClipJudge
    test: MovingDigits

    def marks(self, clips: np.ndarray, labels: np.ndarray) -> Row:
        """What can be said of clips by themselves."""
        features = self.classifier.features
        return {
            "clips %": 100 * self.classifier.accuracy(clips, labels),
            "frames %": 100 * float(np.mean(self.classifier.frames(clips) == labels[:, None])),
            "Fréchet": frechet_of_features(features(clips), features(self.test.videos)),
            "speed": float(speeds(clips).mean()),
        }


def fit_judge(frames: int) -> Judge:
    """Makes real clips of so many frames and fits the classifier; takes a few seconds."""
    train, test = (load_moving_digits(split, frames) for split in ("train", "test"))
    return Judge(fit_clip_judge(train.videos, train.labels), test)


def examine(subject: Subject, judge: Judge, flags: argparse.Namespace) -> Iterator[Row]:
    """One row for each way to sample, the run without cache first."""
    labels = np.repeat(np.arange(NUM_CLASSES, dtype=np.int32), flags.per_class)
    marks = partial(judge.marks, labels=labels)
    settings = {"seed": flags.seed, "batch": flags.batch}
    yield from examined(make_cases(subject, flags), labels, marks, FRAME, **settings)


def read_flags(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    bundled = find_model(MOVING_DIGITS).weights
    parser.add_argument("--source", type=Path, default=bundled, metavar="SOURCE")
    published = {"start": LATTE_SKIP_CACHE.start, "stop": LATTE_SKIP_CACHE.stop}
    add_flags(parser, per_class=PER_CLASS, batch=BATCH, **published)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Prints one table; exit code 2 and one line for bad input."""
    argv = sys.argv[1:] if argv is None else argv
    flags = read_flags(argv)
    with told_in_one_line(PROGRAM):
        if min(flags.per_class, flags.batch) < 1:
            raise ValueError("--per-class and --batch: wanted 1 or more")
        subject = load_subject(flags.source, flags, FRAME)
        make_cases(subject, flags)
    judge = fit_judge(subject.model.config.num_frames)
    test = judge.test
    rows = list(examine(subject, judge, flags))
    blank = dict.fromkeys(rows[0], "")
    real = {**judge.marks(test.videos, test.labels), "Fréchet": ""}  # 0 but for rounding
    rows.append({**blank, "sampling": f"real clips of the test split, {len(test.labels)}", **real})
    told = {"seed": flags.seed, **facts(PROGRAM, argv, [subject])}
    print(report.markdown(("", ""), list(told.items())), end="\n\n")
    print(report.markdown(list(rows[0]), [list(row.values()) for row in rows]))
    if flags.json:
        with told_in_one_line(PROGRAM), replacing_file(flags.json) as file:
            file.write(json.dumps({"facts": told, "rows": rows}, indent=1).encode())


if __name__ == "__main__":
    main()
