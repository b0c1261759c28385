"""python -m skipdit_jax.cli.evaluate: samples in, the numbers that papers report out.

  python -m skipdit_jax.cli.evaluate --samples DIR --reference VIRTUAL_imagenet256_labeled.npz
  python -m skipdit_jax.cli.evaluate --samples cached.npz --reference uncached.npz \\
      --metrics psnr,ssim,lpips

Metrics: fid, sfid, is, pr (precision and recall), kid of pictures; fvd of clips; lpips, psnr, ssim
of pairs: sample i of --samples against sample i of --reference. A run that was stopped goes on
where it stood. docs/evaluation.md says which settings re-make which published number.

Exit codes: 0 done, 2 bad input (one line on stderr).
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from skipdit_jax.checkpoints.atomic import replacing_file
from skipdit_jax.cli.errors import OneLineParser, show_any_name, told_in_one_line
from skipdit_jax.cli.evaluation_flags import (
    EvaluationOptions,
    add_evaluation_flags,
    chosen_metrics,
    load_extractors,
    read_evaluation,
)
from skipdit_jax.cli.interrupts import interruptible
from skipdit_jax.cli.machine import command, hardware
from skipdit_jax.cli.memory import enough_memory
from skipdit_jax.cli.numbers import natural, positive
from skipdit_jax.cli.outputs import check_writable
from skipdit_jax.cli.runner import make_progress, use_compilation_cache
from skipdit_jax.evaluation.evaluate import (
    Reference,
    check_possible,
    check_widths,
    evaluate,
)
from skipdit_jax.evaluation.extraction import Extractor
from skipdit_jax.evaluation.features import few_samples
from skipdit_jax.evaluation.gathering import kept_place
from skipdit_jax.evaluation.scores import LPIPS, METRICS, Score, for_json
from skipdit_jax.evaluation.sets import FirstOf, SampleSet
from skipdit_jax.runs.sample_sets import ANY_SIZE, Cut, open_reference, open_samples

PROGRAM = "python -m skipdit_jax.cli.evaluate"
SMALLER = "wanted a smaller --metrics-batch-size or --metrics-dtype bfloat16"
COUNTED = ("fid", "sfid", "fvd")  # whose bias falls with the number of samples


@interruptible(PROGRAM)
@enough_memory(PROGRAM, SMALLER)
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
      argv: the flags, without the program's name; None for those of the process.

    Returns:
      The exit code, 0.

    Raises:
      SystemExit: with code 2 for bad input, or that of a signal.
    """
    show_any_name()
    with told_in_one_line(PROGRAM):
        values = vars(make_parser().parse_args(argv))
        options, place = read_evaluation(values), values.pop("place")
        progress, cut = values.pop("progress"), Cut(**values)
        use_compilation_cache()
        samples = open_samples(place, cut)
        prepared = prepare_evaluation(options, samples, cut)
        run_evaluation(prepared, samples, command(PROGRAM, argv), progress, cut._asdict())
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of this program."""
    parser = OneLineParser(prog=PROGRAM, description=__doc__)
    add = parser.add_argument
    add(
        "--samples",
        required=True,
        dest="place",
        metavar="PLACE",
        help="a folder of pictures or of sample.py (--sample-dir), an .npz with arr_0, or a run or "
        "weights of a model of pixels, which draws --num-samples",
    )
    add_evaluation_flags(parser)
    add("--num-samples", type=positive, dest="samples", metavar="N", help="so many, the first")
    add("--image-size", type=positive, metavar="S", help="scale and cut pictures to SxS, as ADM")
    add(
        "--num-frames",
        type=positive,
        metavar="F",
        help="of videos, frames in folders too; default: 16",
    )
    add("--frame-stride", type=positive, default=1, metavar="N", help="of these; default: 1")
    add("--data-dir", default="", metavar="DIR", help="of TFDS")
    add("--seed", type=natural, default=0, help="of samples drawn, and of where clips begin")
    add("--progress", action="store_true", help="a bar of samples")
    return parser


class Prepared(NamedTuple):
    """An evaluation of which everything but the samples is at hand.

    Attributes:
      options: what was asked for.
      names: of the metrics.
      reference: what samples are held against.
      extractors: networks by name.
      networks: what fixes their features, for the JSON.
    """

    options: EvaluationOptions
    names: tuple[str, ...]
    reference: Reference
    extractors: dict[str, Extractor]
    networks: dict[str, Any]


def prepare_evaluation(
    options: EvaluationOptions, samples: SampleSet, cut: Cut = ANY_SIZE
) -> Prepared:
    """Opens the reference and reads the networks, so that what is missing is told first.

    Args:
      options: what was asked for.
      samples: to evaluate; of those that are not drawn yet nothing but shape and number is read.
      cut: how the reference is read.

    Raises:
      ValueError: (or OSError) what the user has to mend.
    """
    if options.metrics_json is not None:
        check_writable("--metrics-json", options.metrics_json)
    reference = open_reference(options.reference, cut._replace(samples=None), samples)
    names = chosen_metrics(options, samples, reference)
    if reference.samples is not None and all(METRICS[name].pairs for name in names):
        fewer = min(len(samples), len(reference.samples)) if cut.samples else len(samples)
        reference = reference._replace(samples=FirstOf(reference.samples, fewer))
    check_possible(names, samples, reference, options.choices)
    check_widths(names, reference)
    extractors, networks = load_extractors(options, names, print)
    if LPIPS in extractors:
        extractors[LPIPS].check((2, *samples.shape[-3:]))  # it takes pictures as they are
    return Prepared(options, names, reference, extractors, networks)


def run_evaluation(
    prepared: Prepared,
    samples: SampleSet,
    typed: str,
    progress: bool = False,
    read_as: Mapping[str, Any] | None = None,
) -> list[Score]:
    """Evaluates, prints the table and writes the JSON.

    Args:
      prepared: see `prepare_evaluation`.
      samples: to evaluate.
      typed: the command, for the JSON.
      progress: show a bar.
      read_as: how the sets were read, for the JSON.

    Raises:
      ValueError: (or OSError) what the user has to mend.
    """
    options, names, reference, extractors, networks = prepared
    print(described(samples, reference, options))
    with make_progress(progress) as bar:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, count: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=count)
            bar.update(tasks[what], completed=done)

        fixed = options.choices, kept_place(), tell
        found = evaluate(samples, reference, names, extractors, *fixed)
    print(table(found))
    if any(name in COUNTED for name in names) and (warning := few_samples(len(samples))):
        print(f"note     {warning}")
    if options.metrics_json is not None:
        facts = {
            "scores": for_json(found),
            "samples": told(samples) | dict(read_as or {}),
            "reference": {"place": options.reference} | told(reference.samples),
            "networks": networks,
            "choices": dataclasses.asdict(options.choices),
            "command": typed,
            **hardware(),
        }
        write_json(options.metrics_json, facts)
        print(f"written  {options.metrics_json}")
    return found


def write_json(path: Path, facts: Mapping[str, Any]) -> None:
    """Writes the numbers; infinities become text, which all readers of JSON can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing_file(path) as file:
        file.write(json.dumps(_plain(facts), indent=1, allow_nan=False).encode() + b"\n")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return str(value)
    return value


def told(samples: SampleSet | None) -> dict[str, Any]:
    """What fixes a set, for JSON."""
    if samples is None:
        return {}
    return {
        "name": samples.name,
        "count": len(samples),
        "shape": list(samples.shape),
        "fingerprint": samples.fingerprint,
    }


def described(samples: SampleSet, reference: Reference, options: EvaluationOptions) -> str:
    """What is about to be held against what."""
    lines = [f"samples  {_line(samples)}"]
    if reference.samples is not None:
        lines.append(f"against  {_line(reference.samples)}")
    if reference.statistics is not None:
        lines.append(f"against  statistics of {options.reference}")
    return "\n".join(lines)


def _line(samples: SampleSet) -> str:
    return f"{samples.name}: {len(samples)} of {'x'.join(map(str, samples.shape))}"


def table(found: Sequence[Score]) -> str:
    """One line for each number: value, interval of 95 %, which way is better."""
    lines = []
    for score in found:
        title = METRICS[score.metric].title if score.metric in METRICS else score.metric
        unit = METRICS[score.metric].unit if score.metric in METRICS else ""
        line = f"{title:<16} {score.value:.6g}{f' {unit}' if unit else ''}"
        if score.low is not None:
            line += f"  [{score.low:.6g}, {score.high:.6g}]"
        if score.spread is not None:
            line += f"  deviation {score.spread:.3g}"
        lines.append(f"{line}  ({score.better} is better)")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
