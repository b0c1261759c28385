"""The picture of the benchmark of caches: quality against FLOPs, and against measured seconds."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cache_settings import FEWER, METHODS, UNCACHED
from skipdit_jax.files import check_folder, check_replaceable, replacing_path

Row = dict[str, Any]

ACROSS = {"GFLOP": "GFLOP of one sample", "s": "seconds of one batch"}
UP = {"PSNR dB": "PSNR to no cache, dB", "Fréchet": "Fréchet distance"}
SCALES = {"PSNR dB": "linear", "Fréchet": "log"}  # distances of the worst are 20 times the best
SIZE = 5.0, 3.6  # inches of a panel
DPI = 110
PAIRS, MARKERS = 10, "oD^"  # of a dark and a light colour: the dark ones are taken first


def check(path: Path) -> None:
    """Makes sure, before anything is measured, that the picture can be drawn and written.

    Raises:
      ValueError: matplotlib is missing, or the name does not end in .png.
      OSError: no file can stand there.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("--picture: found no matplotlib, wanted: pip install matplotlib")
    if path.suffix != ".png":
        raise ValueError(f"--picture: found {path}, wanted a name that ends in .png")
    check_folder(path.parent)
    check_replaceable(path)


def draw(results: Mapping[str, Sequence[Row]], path: Path) -> None:
    """Draws a row of panels for each model and mark: a colour per method, bars for the spread.

    Args:
      results: model -> rows of `cache_records.rows_of`.
      path: a PNG file.
    """
    from matplotlib.figure import Figure  # an own canvas: no window, nothing global

    lines = [(model, mark) for model in results for mark in UP]
    size = SIZE[0] * len(ACROSS), SIZE[1] * len(lines) + 1
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    panels = figure.subplots(len(lines), len(ACROSS), squeeze=False, sharey="row")
    handles: dict[str, Any] = {}
    for (model, mark), pair in zip(lines, panels, strict=True):
        for panel, across in zip(pair, ACROSS, strict=True):
            handles |= _panel(panel, results[model], across, mark)
            panel.set(xlabel=ACROSS[across], title=model, yscale=SCALES[mark])
        pair[0].set_ylabel(UP[mark])
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=4, frameon=False)
    with replacing_path(path) as new:
        figure.savefig(new, format="png")


def _panel(panel: Any, rows: Sequence[Row], across: str, mark: str) -> dict[str, Any]:
    """One mark against one cost; what stands for each method."""
    handles = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        points = sorted((row[across], *row[mark]) for row in rows if _has(row, method, mark))
        if points:
            x, y, spread = zip(*points, strict=True)
            handles[method] = panel.errorbar(x, y, yerr=spread, capsize=2, **_style(method))
    panel.grid(alpha=0.3)
    return handles


def _has(row: Row, method: str, mark: str) -> bool:
    return row["method"] == method and mark in row


def _style(method: str) -> dict[str, Any]:
    from matplotlib import colormaps

    if method == UNCACHED:
        return {"color": "black", "marker": "*", "markersize": 11, "linestyle": "none"}
    if method == FEWER:
        return {"color": "black", "marker": "s", "linestyle": "--", "linewidth": 2, "zorder": 3}
    turn, pair = divmod(list(METHODS).index(method), PAIRS)
    colour = colormaps["tab20"](2 * pair + turn % 2)
    return {"color": colour, "marker": MARKERS[turn], "linewidth": 1}
