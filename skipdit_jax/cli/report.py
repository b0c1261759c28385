"""python -m skipdit_jax.cli.report: caches compared on several models, as one page.

  python -m skipdit_jax.cli.report --models dit-digits latte-digits --sampler ddim --out report.html

Each model is sampled as `sample.py --compare` does, with the caches of --caches, or those that are
usual for it; all other flags are those of sample.py. The page needs no network and nothing beside
it; NAME.json has the same numbers.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from skipdit_jax import registry
from skipdit_jax.cli import compare
from skipdit_jax.cli.build import prepare_sampling
from skipdit_jax.cli.errors import OneLineParser, show_any_name, told_in_one_line
from skipdit_jax.cli.job import SamplingJob
from skipdit_jax.cli.looks import load_looks
from skipdit_jax.cli.machine import command
from skipdit_jax.cli.memory import enough_memory
from skipdit_jax.cli.options import parse
from skipdit_jax.cli.outputs import PICTURE, make_folders
from skipdit_jax.cli.report_parts import TITLE, curve_variants, section_of
from skipdit_jax.cli.runner import use_compilation_cache
from skipdit_jax.evaluation.extraction import Extractor
from skipdit_jax.visualise.report import NUMBERS, write_report

PROGRAM = "skipdit_jax.cli.report"
SMALLER = "wanted a smaller --batch-size or --dtype bfloat16"


@enough_memory(PROGRAM, SMALLER)
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
        found = [prepared(source, options.caches, options.out, others) for source in options.models]
    use_compilation_cache()
    typed, sections, numbers = command(f"python -m {PROGRAM}", argv), [], {}
    for job, variants, looks in found:
        print(job.name)
        scores = compare.measure(job, variants, progress=True)
        print(compare.table(scores, job.settings))
        section, numbers[job.name] = section_of(job, scores, typed, looks)
        sections.append(section)
    with told_in_one_line(PROGRAM):
        make_folders([options.out])
        write_report(options.out, TITLE, sections, {"models": numbers})
    print(f"written  {options.out}, {options.out.with_suffix(NUMBERS)}")
    return 0


def make_parser() -> OneLineParser:
    """The parser of this program's own flags; what it does not know is sample.py's."""
    parser = OneLineParser(prog=f"python -m {PROGRAM}", description=__doc__)
    add = parser.add_argument
    add("--models", nargs="+", required=True, metavar="NAME|FILE", help="by name, or their weights")
    add("--caches", nargs="*", default=[], metavar="CACHE", help="as --compare takes them")
    add("--out", type=Path, required=True, metavar="FILE.html")
    return parser


def prepared(
    source: str, caches: Sequence[str], out: Path, others: Sequence[str]
) -> tuple[SamplingJob, list[compare.Variant], Extractor | None]:
    """A model, the ways to sample it, and LPIPS where that can be had.

    Raises:
      ValueError: whatever the user has to mend, in one line.
    """
    of = "--model" if source in registry.BUNDLED else "--ckpt"
    flags = [of, source, "--compare", *caches, "--report", str(out)]
    options = parse([*others, *flags, "--out", str(out.with_suffix(PICTURE))])
    job = prepare_sampling(options)
    variants = compare.make_variants(job, caches)
    looks = load_looks(job, options.evaluation)
    return job, [*variants, *curve_variants(job, variants)], looks


if __name__ == "__main__":
    sys.exit(main())
