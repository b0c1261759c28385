"""What the benchmarks print: the machine, and tables in Markdown."""

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata, util

from skipdit_jax.cli.machine import processor

PACKAGES = ("jax", "jaxlib", "flax", "numpy", "torch")


def environment(threads: int) -> dict[str, str]:
    """Processor, threads, versions, and how busy the machine is."""
    versions = {p: metadata.version(p) for p in PACKAGES if util.find_spec(p)}
    return {
        "processor": processor(),
        "cores": f"{os.cpu_count()}, used: {threads}",
        "load average (1, 5, 15 min)": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "python": sys.version.split()[0],
        **versions,
    }


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; floats get four digits."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def table(title: str, rows: Sequence[Mapping[str, object]]) -> str:
    """A titled table of rows that share their keys; a note if there are none."""
    if not rows:
        return f"## {title}\n\nnothing measured\n"
    return f"## {title}\n\n{markdown(list(rows[0]), [list(row.values()) for row in rows])}\n"
