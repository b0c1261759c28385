"""python -m skipdit_jax.cli.caches: the caching methods, and what each costs on a model.

Prints a row for each method at a usual setting, or for each setting that is named: its notation, as
--cache takes it, what it keeps from step to step, bytes and FLOPs of one sample, and how much
faster the saved FLOPs can make it. It is arithmetic: nothing is loaded and nothing runs.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from skipdit_jax.caching import notation
from skipdit_jax.caching.method import decides
from skipdit_jax.caching.plan import CachePolicy
from skipdit_jax.caching.summary import MIB, CacheSummary
from skipdit_jax.cli.errors import OneLineParser, show_any_name, told_in_one_line
from skipdit_jax.contracts import Backbone
from skipdit_jax.pipeline import Sampler
from skipdit_jax.registry import DIGITS, create_model, published_sampling

PROGRAM = "skipdit_jax.cli.caches"
COLUMNS = ("--cache", "method", "what is kept", "MiB", "TFLOP", "ceiling", "plan", "paper")
WIDTH = 400  # of a table that is not shown on a terminal: no line is broken
STEPS = "50"
PLACEHOLDER = "FILE"
ALONE = 1.0  # guidance that runs a single batch


class Row(NamedTuple):
    """A setting on a model.

    Attributes:
      text: the notation.
      method: its policy, or the class of one that was not made; None computes every step.
      summary: of one sample; None where the model cannot follow it.
      reason: why not.
    """

    text: str
    method: Any
    summary: CacheSummary | None = None
    reason: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
      argv: the flags, without the program's name; None for those of the process.

    Returns:
      The exit code, 0.

    Raises:
      SystemExit: with code 2 for a model, steps or settings that do not exist.
    """
    show_any_name()
    with told_in_one_line(PROGRAM):
        options = make_parser().parse_args(argv)
        model = create_model(options.model)
        scale = published_sampling(model).guidance if model.conditioning.has_null else ALONE
        rows = [row_of(model, notation.NO_CACHE, None, options.steps, scale)]
        rows += rows_of(model, options.caches, options.steps, scale)
    table = Table(*COLUMNS, box=box.SIMPLE)
    for row in rows:
        table.add_row(*cells_of(row))
    Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False).print(table)
    for row in rows:
        if row.reason:
            print(f"not here {row.text}: {row.reason}")
    guided = f"guidance {scale:g}: [cond; uncond]" if scale > ALONE else "no guidance"
    print(
        f"one sample of {options.model}, {model.num_stages} stages, {model.num_skips} skips, "
        f"{options.steps} steps, {guided}; {model.config.dtype}"
    )
    if any(decides(row.method) for row in rows):
        print("dynamic: the samples decide; TFLOP and ceiling are the best that it may come to")
    print(
        f"a {notation.AND} joins methods of different sockets; docs/caching.md tells all settings"
    )
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of this program."""
    parser = OneLineParser(prog=f"python -m {PROGRAM}", description=__doc__)
    parser.add_argument(
        "caches", nargs="*", metavar="CACHE", help="settings to list; default: one of each method"
    )
    parser.add_argument("--model", default=DIGITS, metavar="NAME", help="default: %(default)s")
    parser.add_argument(
        "--steps", default=STEPS, metavar="S", help="or a spacing; default: %(default)s"
    )
    return parser


def rows_of(model: Backbone, texts: Sequence[str], steps: str, scale: float) -> list[Row]:
    """A row for each of these settings, or for a usual one of each method.

    Raises:
      ValueError: a text that is no notation.
    """
    published = published_sampling(model).cache
    if texts:
        return [row_of(model, t, notation.read(t, published), steps, scale) for t in texts]
    rows = []
    for name, method in notation.POLICIES.items():
        text = getattr(method, "EXAMPLE", name)
        if PLACEHOLDER in text:
            reason = f"give a file: python -m {PROGRAM} {text}"
            rows.append(Row(text, method, reason=reason))
        else:
            rows.append(row_of(model, text, notation.read(text, published), steps, scale))
    return rows


def row_of(model: Backbone, text: str, policy: CachePolicy | None, steps: str, scale: float) -> Row:
    """What a setting costs on a model, or why the model cannot follow it."""
    uncached = Sampler(model, steps=steps, guidance=scale)
    if policy is None:
        return Row(text, None, uncached.summary(1))
    try:
        sampler = Sampler(model, steps=steps, guidance=scale, cache=policy)
    except ValueError as error:
        return Row(text, policy, reason=str(error))
    return Row(text, policy, sampler.summary(1))


def cells_of(row: Row) -> tuple[str, ...]:
    """The cells of a row."""
    if row.method is None:
        facts = ("every step computed", "", "", "")
    else:
        static = "dynamic" if decides(row.method) else "static"
        paper = getattr(row.method, "PAPER", "")
        facts = (row.method.title, getattr(row.method, "KEEPS", ""), static, paper)
    title, keeps, plan, paper = facts
    numbers = ("", "", "not here")
    if row.summary is not None:
        mib, tera = row.summary.cache_bytes / MIB, row.summary.flops / 1e12
        numbers = (f"{mib:.3g}", f"{tera:.4g}", f"{row.summary.ceiling:.2f}x")
    return (row.text, title, keeps, *numbers, plan, paper)


if __name__ == "__main__":
    sys.exit(main())
