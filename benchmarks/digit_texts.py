"""Whether the bundled models of text draw what they are told, and what caching costs of it.

One command, from the root of the repository,

    python -m benchmarks.digit_texts [--clips SOURCE] [--pictures SOURCE] [--json FILE]

asks for --count clips and as many pictures in phrasings that the models were trained on, and again
in phrasings that neither they nor the text encoder has seen; every step computed, and cached with
N = 2, 3, 4, from the same noise.

Columns:
  ceiling   FLOPs of the run without cache over those of this one
  digit     share that shows the asked digit to a classifier of real clips (of a clip most frames)
  way       share whose mean displacement has the asked signs: along the asked axes of up and down,
            left and right
  nearest   share whose displacement is nearest to the asked one of all eight ways
  pace      of those that were told one, share on its side of the middle between slow and fast
  place     share whose centre of ink is in the asked ninth of the picture
  PSNR      mean over samples, to those without cache
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
from benchmarks.clips import FRAME, fit_judge
from benchmarks.digit_models import (
    Case,
    Row,
    Subject,
    add_sampler_flags,
    cached_cases,
    examined,
    facts,
    load_subject,
)
from skipdit_jax.caching.presets import LATTE_SKIP_CACHE
from skipdit_jax.checkpoints.atomic import replacing_file
from skipdit_jax.cli.errors import told_in_one_line
from skipdit_jax.data.captioned_digits import PLACE
from skipdit_jax.data.digit_captions import (
    CLIPS,
    CLIPS_HELD_OUT,
    PACES,
    PICTURES,
    PICTURES_HELD_OUT,
    PLACES,
    TOLD,
    WAYS,
    Said,
    caption_of,
    gaps_of,
)
from skipdit_jax.data.moving_digits import CANVAS, ROOM
from skipdit_jax.evaluation.judges.moving_digits import ClipJudge, centres, speeds
from skipdit_jax.registry import CLIPS_OF_TEXT, DIGIT_WORDS, PICTURES_OF_TEXT, find_model
from skipdit_jax.weights.texts import condition_of, embed_prompts, negative_prompt_of

PROGRAM = "benchmarks.digit_texts"
COUNT, BATCH = 200, 50
FRAMES = 8  # of the real clips that the classifier is fitted on
MIDDLE = (PACES[0][1] + PACES[1][0]) / 2


class Asked(NamedTuple):
    """What is asked for: prompts, and what each tells."""

    prompts: list[str]
    said: list[Said]

    def values(self, name: str) -> np.ndarray:
        """Of all prompts; -1 where one leaves it open."""
        found = (getattr(said, name) for said in self.said)
        return np.array([-1 if value is None else value for value in found])


def ask(phrasings: Sequence[str], needed: str, count: int, seed: int) -> Asked:
    """Prompts in phrasings that tell what is needed, each digit and each value about as often."""
    rng = np.random.default_rng(seed)
    telling = [phrasing for phrasing in phrasings if needed in gaps_of(phrasing)]
    columns = {name: rng.permutation(np.arange(count) % many) for name, many in TOLD.items()}
    prompts, said = [], []
    for row in range(count):
        phrasing = str(rng.choice(telling))
        told = {name: int(columns[name][row]) for name in gaps_of(phrasing)}
        said.append(Said(**told))
        prompts.append(caption_of(phrasing, said[-1]))
    return Asked(prompts, said)


def marks_of_clips(judge: ClipJudge, clips: np.ndarray, asked: Asked) -> Row:
    """What can be said of clips by themselves, per cent."""
    moved = np.diff(centres(clips), axis=1).mean(axis=1)  # [n, 2], (down, right)
    ways = np.array(WAYS, float)
    wanted = ways[asked.values("way")]
    signs = np.all((wanted == 0) | (np.sign(moved) == wanted), axis=1)
    units = ways / np.linalg.norm(ways, axis=1, keepdims=True)
    nearest = np.argmax(moved @ units.T, axis=1) == asked.values("way")
    pace = asked.values("pace")
    paced = (speeds(clips) > MIDDLE)[pace >= 0] == pace[pace >= 0]
    shown = judge.predict(clips) == asked.values("digit")
    shares = {"digit": shown, "way": signs, "nearest": nearest, "pace": paced}
    return {f"{name} %": 100 * float(np.mean(right)) for name, right in shares.items()}


def marks_of_pictures(judge: ClipJudge, pictures: np.ndarray, asked: Asked) -> Row:
    """The same of pictures."""
    middle, step = (CANVAS - 1) / 2, (ROOM - PLACE) / 2
    found = np.rint((centres(pictures[:, None])[:, 0] - middle) / step)
    placed = np.all(np.clip(found, -1, 1) == np.array(PLACES)[asked.values("place")], axis=1)
    shown = judge.predict(pictures[:, None]) == asked.values("digit")
    return {"digit %": 100 * float(np.mean(shown)), "place %": 100 * float(np.mean(placed))}


def examine(
    subject: Subject, judge: ClipJudge, asked: Asked, flags: argparse.Namespace
) -> Iterator[Row]:
    """One row for each way to sample, the run without cache first."""
    model = subject.model
    texts = [*asked.prompts, negative_prompt_of(model)]
    embeds = embed_prompts(model, texts, {"t5": flags.words})
    condition = condition_of(model, embeds, asked.prompts)
    marks = marks_of_clips if len(model.sample_shape) > len(FRAME) else marks_of_pictures
    cases = [Case("no cache", subject, {}), *cached_cases(subject, flags)]
    given = model.conditioning.prepare(condition, flags.count)
    marked = partial(marks, judge, asked=asked)
    yield from examined(cases, given, marked, FRAME, seed=flags.seed, batch=BATCH)


def read_flags(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    for flag, bundled in (("--clips", CLIPS_OF_TEXT), ("--pictures", PICTURES_OF_TEXT)):
        add(flag, type=Path, default=find_model(bundled).weights, metavar="SOURCE")
    add("--words", type=Path, default=DIGIT_WORDS, metavar="FOLDER", help="the text encoder")
    add("--only", choices=("clips", "pictures"), help="one of the two")
    add("--count", type=int, default=COUNT)
    add("--seed", type=int, default=0)
    add_sampler_flags(parser)
    add("--every", type=int, nargs="*", default=(2, 3, 4), metavar="N")
    add("--start", type=int, default=LATTE_SKIP_CACHE.start, help="cache below this timestep")
    add("--stop", type=int, default=LATTE_SKIP_CACHE.stop, help="and above this one")
    add("--json", type=Path, metavar="FILE", help="also write the figures here")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Prints a table for each kind of phrasing; exit code 2 and one line for bad input."""
    argv = sys.argv[1:] if argv is None else argv
    flags = read_flags(argv)
    kinds = {
        "clips": (flags.clips, "way", {"as in training": CLIPS, "held out": CLIPS_HELD_OUT}),
        "pictures": (
            flags.pictures,
            "place",
            {"as in training": PICTURES, "held out": PICTURES_HELD_OUT},
        ),
    }
    wanted = [kind for kind in kinds if flags.only in (None, kind)]
    with told_in_one_line(PROGRAM):
        if flags.count < 1:
            raise ValueError(f"--count: found {flags.count}, wanted 1 or more")
        subjects = {kind: load_subject(kinds[kind][0], flags, FRAME, 0) for kind in wanted}
    judge = fit_judge(FRAMES).classifier
    results: dict[str, list[Row]] = {}
    told = {"seed": flags.seed, **facts(PROGRAM, argv, subjects.values())}
    print(report.markdown(("", ""), list(told.items())), end="\n\n")
    for kind in wanted:
        _, needed, phrasings = kinds[kind]
        for name, chosen in phrasings.items():
            asked = ask(chosen, needed, flags.count, flags.seed)
            title = f"{kind}, phrasings {name}"
            results[title] = list(examine(subjects[kind], judge, asked, flags))
            print(report.table(title, results[title]), flush=True)
    if flags.json:
        with told_in_one_line(PROGRAM), replacing_file(flags.json) as file:
            file.write(json.dumps({"facts": told, "tables": results}, indent=1).encode())


if __name__ == "__main__":
    main()
