"""What convert prints: a line for every tensor, what was left out, and the sums."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from skipdit_jax.checkpoints import config_fields
from skipdit_jax.checkpoints.conversion import NATIVE, Conversion, Row
from skipdit_jax.checkpoints.errors import printable
from skipdit_jax.weights import autoencoders, metrics

HEADER = ("in the file", "shape", "type", "becomes", "shape", "type")
GAP = "  "
UNTOLD = (*autoencoders.UNTOLD, *metrics.UNTOLD)
UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


def before(conversion: Conversion, target: Path) -> str:
    """What is about to be written: source, model, table, and what a user should know of it."""
    checkpoint = conversion.checkpoint
    fields = fields_text(config_fields(checkpoint, conversion.config.get("num_heads")))
    lines = [
        f"source   {checkpoint.path} ({checkpoint.which})",
        f"model    {checkpoint.family.label}: {fields}",
        f"target   {target} ({conversion.layout})",
        "",
        *columns([HEADER, *map(_cells, conversion.rows)]),
        "",
        *(f"{label:<8} {text}" for label, text in _notes(conversion)),
    ]
    return "\n".join(lines)


def after(conversion: Conversion, target: Path | None, start: float) -> str:
    """The sums; without a target, of a dry run."""
    found = [row.found for row in conversion.rows if row.found is not None]
    numbers = sum(math.prod(handle.shape) for handle in found)
    taken = sum(math.prod(handle.shape) * handle.dtype.itemsize for handle in found)
    if target is None:
        out = f"{size_text(sum(s.nbytes for s in conversion.tensors.values()))} to write (dry run)"
    else:
        out = f"{size_text(target.stat().st_size)} written"
    whole = size_text(conversion.checkpoint.path.stat().st_size)
    return (
        f"total    {len(found)} tensors, {numbers:,} parameters; {size_text(taken)} of {whole} "
        f"taken, {out}; {time.perf_counter() - start:.1f} s"
    )


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells, each column as wide as its widest.

    >>> columns([("a", "bb"), ("ccc", "d")])
    ['a    bb', 'ccc  d']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        GAP.join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def fields_text(fields: Mapping[str, Any]) -> str:
    """Fields of a config in a line."""
    return ", ".join(f"{key} {value}" for key, value in fields.items())


def size_text(size: int) -> str:
    """A number of bytes, in powers of ten as disks count them.

    >>> size_text(2_849_476_736)
    '2.85 GB'
    """
    unit, name = next(((n, name) for n, name in UNITS if size >= n), (1, "bytes"))
    return f"{size / unit:.3g} {name}"


def _cells(row: Row) -> tuple[str, ...]:
    found = ("(computed)", "", "")
    if row.found is not None:
        found = (row.name, _shape(row.found.shape), row.found.dtype.name)
    if row.spec is None:
        return (*found, "(not stored)", "", "")
    return (*found, row.target, _shape(row.spec.shape), row.spec.dtype.name)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "()"


def _notes(conversion: Conversion) -> Iterator[tuple[str, str]]:
    """(label, text) of everything that a user might miss or be surprised by."""
    checkpoint, native = conversion.checkpoint, conversion.layout == NATIVE
    for note in checkpoint.notes:
        yield "note", note
    if checkpoint.others:
        yield "left", f"{', '.join(checkpoint.others)}: not taken, not read"
    if names := [row.name for row in conversion.rows if row.spec is None]:
        yield "tables", f"{', '.join(names)}: not stored, the model computes what the file holds"
    if names := [row.target for row in conversion.rows if row.found is None]:
        yield "tables", f"{', '.join(names)}: computed, as a state dict has them"
    if conversion.rounded:
        yield "tables", f"{', '.join(conversion.rounded)}: kept as rounded in the file"
    if conversion.metadata:
        fate = "carried over" if native else "left out, torch files cannot hold it"
        yield "metadata", f"{', '.join(map(printable, conversion.metadata))}: {fate}"
    untold = {name: value for name, value in conversion.config.items() if name in UNTOLD}
    if native and untold and checkpoint.which != NATIVE:
        yield "config", f"{fields_text(untold)}: taken as published, no weights tell them"
