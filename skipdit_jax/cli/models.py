"""python -m skipdit_jax.cli.models: the released weights, and which of them are here.

Prints a row for each checkpoint: what --ckpt takes, family, model, numbers and size, autoencoder
and sampling of the published samples, where a model of text finds its encoders, the licence that
its page states, and the file if this machine has it; then a row for each network of metrics.
Fetches nothing.
"""

import argparse
import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from skipdit_jax.checkpoints.hub import cache_folder, checksum, find
from skipdit_jax.checkpoints.members import member
from skipdit_jax.checkpoints.pipelines import TRANSFORMER, is_repository
from skipdit_jax.checkpoints.released import RELEASED, VAE_FILE, VAE_SOURCES, Released
from skipdit_jax.checkpoints.released_metrics import METRIC_WEIGHTS, MetricWeights
from skipdit_jax.cli.errors import OneLineParser, show_any_name, told_in_one_line
from skipdit_jax.weights.metrics import REMEDY

PROGRAM = "skipdit_jax.cli.models"
COLUMNS = (
    "source",
    "family",
    "model",
    "numbers",
    "GB",
    "VAE and text encoders",
    "published sampling",
    "licence",
    "here",
)
METRIC_COLUMNS = ("metric network", "file", "MB", "sha256", "licence", "how to get it", "here")
TRANSFORMER_FILE = f"{TRANSFORMER}/{VAE_FILE}"  # diffusers calls the weights of both so
WIDTH = 400  # of a table that is not shown on a terminal: no line is broken


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
      argv: the flags, without the program's name; None for those of the process.

    Returns:
      The exit code, 0.

    Raises:
      SystemExit: with code 2 for flags that do not exist.
    """
    show_any_name()
    with told_in_one_line(PROGRAM):
        make_parser().parse_args(argv)
        rows = [cells_of(row) for row in RELEASED]
        metrics = [cells_of_metric(row) for row in METRIC_WEIGHTS.values()]
    show(COLUMNS, rows)
    print(f"kept in {cache_folder()}, and in the cache of huggingface_hub")
    print("python sample.py --ckpt SOURCE samples from one; docs/weights.md has each command")
    show(METRIC_COLUMNS, metrics)
    print("sd.load_metric_network(NAME) reads one; docs/weights.md, Networks of metrics")
    return 0


def show(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table."""
    table = Table(*columns, box=box.SIMPLE)
    for cells in rows:
        table.add_row(*cells)
    Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False).print(table)


def make_parser() -> argparse.ArgumentParser:
    """The parser of this program."""
    return OneLineParser(
        prog=f"python -m {PROGRAM}",
        description=__doc__,
    )


def cells_of(row: Released) -> tuple[str, ...]:
    """The cells of a released file."""
    fields = ", ".join(f"{name} {value}" for name, value in row.config.items())
    names = {source: f"--vae {name}" for name, source in VAE_SOURCES.items()}
    model = row.model or names[row.source]
    used = row.sampling.vae if row.sampling else ""
    return (
        row.source,
        row.family,
        f"{model} ({fields})" if fields else model,
        f"{row.numbers:,}",
        "" if row.gigabytes is None else f"{row.gigabytes:.2f}",
        used or row.pipeline,
        sampling(row),
        row.licence or "?",
        here(row.source),
    )


def cells_of_metric(row: MetricWeights) -> tuple[str, ...]:
    """The cells of a published file of a network of metrics."""
    return (
        row.name,
        row.file,
        f"{row.megabytes:.1f}",
        row.sha256,
        row.licence,
        escape(REMEDY) if row.package else f"fetched from {row.source}",
        here(row.source) if row.source else str(row.place or ""),
    )


def sampling(row: Released) -> str:
    """How the published samples were made, as flags."""
    if row.sampling is None:
        return ""
    steps = f"{row.sampling.method} {row.sampling.steps}, guidance {row.sampling.guidance:g}"
    return f"{steps}; {row.flags}" if row.flags else steps


def here(source: str) -> str:
    """Where the file is on this machine, with its checksum if we fetched it; "" if it is not.

    Of a pipeline it is the transformer.
    """
    pipeline = is_repository(source)
    path = find(member(source, TRANSFORMER_FILE) if pipeline else source)
    if path is None:
        return ""
    known = checksum(path)
    return f"{path} (sha256 {known})" if known else str(path)


if __name__ == "__main__":
    sys.exit(main())
