"""A report as one HTML page that needs nothing else, and the same numbers as JSON.

Knows tables, pictures and charts; what they show is the caller's. All texts are escaped.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from io import BytesIO
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from skipdit_jax.files import replacing_path
from skipdit_jax.visualise.grids import enlarge, to_image
from skipdit_jax.visualise.video import FRAMES_PER_SECOND

PAGE = "report.html"  # the template, among the assets
NUMBERS = ".json"  # beside the page
MILLISECONDS = 1000
Cell = str | float | int | None


class Samples(NamedTuple):
    """A row of pictures or clips.

    Attributes:
      name: of the row; told of each picture too.
      pictures: uint8 [n,H,W,C], of clips [n,F,H,W,C], of 1 or 3 channels.
    """

    name: str
    pictures: UInt8[np.ndarray, "n *frames H W C"]


@dataclass(frozen=True, kw_only=True)
class Section:
    """What is told of one model.

    Attributes:
      title: of the section.
      facts: what ran, and on what.
      tables: title -> rows, each a mapping of columns to cells.
      samples: rows of pictures, side by side.
      columns: what each picture of a row shows.
      charts: title -> SVG of `charts`.
      strips: name -> SVG of `charts.strip`.
      notes: what a reader should know.
      fps: frames per second of clips.
    """

    title: str
    facts: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Mapping[str, Cell]]] = field(default_factory=dict)
    samples: Sequence[Samples] = ()
    columns: Sequence[str] = ()
    charts: Mapping[str, str] = field(default_factory=dict)
    strips: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    fps: int = FRAMES_PER_SECOND


def write_report(
    path: Path, title: str, sections: Sequence[Section], numbers: Mapping[str, Any]
) -> None:
    """Writes the page, and NAME.json beside it; each appears whole.

    Args:
      path: of the page.
      title: of the whole.
      sections: one for each model.
      numbers: what the JSON holds; numbers that are none become null.

    Raises:
      OSError: a file cannot be written.
    """
    with replacing_path(path.with_suffix(NUMBERS)) as new:
        new.write_text(json.dumps(_plain(numbers), indent=1, allow_nan=False) + "\n")
    with replacing_path(path) as new:
        new.write_text(page(title, sections), encoding="utf-8")


def page(title: str, sections: Sequence[Section]) -> str:
    """The page as text."""
    template = Template(resources.files("skipdit_jax").joinpath("assets", PAGE).read_text())
    return template.substitute(title=escape(title), body="".join(map(_section, sections)))


def _plain(value: Any) -> Any:
    """As JSON has it: infinite numbers, and those that are none, are null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value


def _section(one: Section) -> str:
    facts = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in one.facts.items())
    parts = [f"<section><h2>{escape(one.title)}</h2><dl>{facts}</dl>"]
    parts += [f'<p class="note">{escape(note)}</p>' for note in one.notes]
    parts += [f"<h3>{escape(name)}</h3>{_table(rows)}" for name, rows in one.tables.items() if rows]
    if one.samples:
        parts.append(f"<h3>Samples</h3>{_gallery(one)}")
    parts += [f"<h3>{escape(name)}</h3>{svg}" for name, svg in one.charts.items() if svg]
    if one.strips:
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{svg}</td></tr>" for name, svg in one.strips.items()
        )
        parts.append(
            "<h3>Which steps were computed</h3>"
            f'<div class="wide"><table class="strips">{rows}</table></div>'
        )
    return "".join((*parts, "</section>"))


def _table(rows: Sequence[Mapping[str, Cell]]) -> str:
    header = "".join(f'<th scope="col">{escape(name)}</th>' for name in rows[0])
    lines = []
    for row in rows:
        (name, *others) = row.values()
        cells = "".join(f"<td>{_cell(value)}</td>" for value in others)
        lines.append(f'<tr><th scope="row">{_cell(name)}</th>{cells}</tr>')
    body = "".join(lines)
    return (
        f'<div class="wide"><table><thead><tr>{header}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(value: Cell) -> str:
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))


def _gallery(one: Section) -> str:
    moving = one.samples[0].pictures.ndim == 5
    count = len(one.samples[0].pictures)
    columns = [*one.columns] if len(one.columns) == count else [f"sample {i}" for i in range(count)]
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    rows = []
    for row in one.samples:
        cells = "".join(
            f"<td>{_picture(picture, f'{row.name}, {column}', one.fps)}</td>"
            for picture, column in zip(row.pictures, columns, strict=True)
        )
        rows.append(f'<tr><th scope="row">{escape(row.name)}</th>{cells}</tr>')
    button = '<button type="button" class="play">pause clips</button>' if moving else ""
    return (
        f'{button}<div class="wide"><table class="gallery"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _picture(picture: np.ndarray, told: str, fps: int) -> str:
    """A picture that opens larger; of a clip what moves, and its middle frame for a pause."""
    moving = picture.ndim == 4
    still = _data(enlarge(picture[len(picture) // 2] if moving else picture)[None], fps)
    shown = _data(enlarge(picture), fps) if moving else still
    pause = f' data-still="{still}" data-moving="{shown}"' if moving else ""
    return (
        f'<button type="button" class="zoom" aria-label="enlarge {escape(told)}">'
        f'<img src="{shown}" alt="{escape(told)}"{pause}></button>'
    )


def _data(frames: np.ndarray, fps: int) -> str:
    """Frames [F,H,W,C] as a data URI: a PNG, that of several moves."""
    first, *rest = map(to_image, frames)
    moves = {"save_all": True, "append_images": rest, "duration": MILLISECONDS // fps, "loop": 0}
    file = BytesIO()
    first.save(file, "PNG", **(moves if rest else {}))
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
