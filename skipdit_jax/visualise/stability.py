"""Figures of how stable a model's features are, models side by side; drawn by matplotlib."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from skipdit_jax import optional
from skipdit_jax.files import replacing_path

FORMATS = ("png", "svg")
DPI = 90
WIDE, HIGH = 3.4, 2.7  # inches of a panel
LEVELS = 12  # of a surface
ROUND = (1, 2, 5)  # what logarithmic axes tell
SHARE = 0.98  # of all numbers that a scale of colours shows: one far off would hide the others

Grid = Float[np.ndarray, "_rows _columns"]
Panels = Mapping[str, Mapping[str, Grid]]
"""Model -> title of a panel -> what it shows; all models have as many, of one kind each."""


def check_drawable(place: str) -> None:
    """Raises MissingExtraError, in one line that begins with the place, without matplotlib."""
    optional.require("plot", place)


def draw_similarity(path: Path, panels: Panels, deep: Mapping[str, int]) -> None:
    """Heat maps over steps and blocks, a row of panels for each model.

    Args:
      path: its ending says which of `FORMATS`.
      panels: arrays [S,U]; the first step is none.
      deep: model -> the block whose output a cache reuses, which is marked.
    """

    def panel(axes: Any, model: str, grid: Grid, limits: tuple[float, float]) -> Any:
        steps, blocks = grid.shape
        image = axes.imshow(
            grid[1:].T,
            aspect="auto",
            origin="lower",
            extent=(0.5, steps - 0.5, -0.5, blocks - 0.5),
            vmin=limits[0],
            vmax=limits[1],
        )
        axes.axhline(deep[model], color="white", linewidth=0.8, linestyle=":")
        axes.set(xlabel="step", ylabel="block")
        return image

    _draw_grids(path, panels, panel)


def draw_surfaces(path: Path, panels: Panels, coordinates: Float[np.ndarray, "P"]) -> None:
    """Surfaces as lines of equal height, a row of panels for each model, one scale for a column.

    Args:
      path: its ending says which of `FORMATS`.
      panels: arrays [P,P], α first.
      coordinates: α and β.
    """

    def panel(axes: Any, model: str, grid: Grid, limits: tuple[float, float]) -> Any:
        levels = np.linspace(*limits, LEVELS)
        image = axes.contourf(coordinates, coordinates, grid.T, levels=levels, extend="both")
        axes.plot(0, 0, "+", color="white")
        axes.set(xlabel="α", ylabel="β")
        return image

    _draw_grids(path, panels, panel)


def draw_spectra(path: Path, norms: Mapping[str, Mapping[str, Float[np.ndarray, "K"]]]) -> None:
    """Bars of spectral norms, a panel for each model.

    Args:
      path: its ending says which of `FORMATS`.
      norms: model -> name -> of each skip fusion.
    """
    figure, panels = _figure(1, len(norms))
    for axes, (model, bars) in zip(panels[0], norms.items(), strict=True):
        width = 1 / (len(bars) + 1)
        for number, (name, heights) in enumerate(bars.items()):
            places = np.arange(len(heights)) + (number - (len(bars) - 1) / 2) * width
            axes.bar(places, heights, width, label=name)
        axes.set(xlabel="skip fusion", ylabel="spectral norm", title=model)
        axes.legend(frameon=False, fontsize="small")
    _save(figure, path)


def draw_cache_errors(
    path: Path, points: Mapping[str, tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]]
) -> None:
    """Measured against predicted errors, with the diagonal where they agree.

    Args:
      path: its ending says which of `FORMATS`.
      points: model -> (predicted, measured), root mean squares.
    """
    figure, panels = _figure(1, 1)
    axes = panels[0][0]
    for model, (predicted, measured) in points.items():
        axes.scatter(predicted, measured, s=14, label=model)
    ends = [float(value) for pair in points.values() for one in pair for value in one if value > 0]
    if ends:
        axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color="grey", linewidth=0.8)
        _round_numbers(axes)
    axes.set(xlabel="predicted RMS", ylabel="measured RMS")
    axes.legend(frameon=False, fontsize="small")
    axes.grid(alpha=0.3)
    _save(figure, path)


def _round_numbers(axes: Any) -> None:
    """Logarithmic axes that tell 1, 2 and 5 of each power of ten."""
    ticker: Any = optional.load("matplotlib.ticker", "figures")
    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(ticker.LogLocator(subs=ROUND))
        axis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(ticker.NullFormatter())


def _draw_grids(path: Path, panels: Panels, draw: Callable[..., Any]) -> None:
    columns = list(zip(*(grids.items() for grids in panels.values()), strict=True))
    figure, axes = _figure(len(panels), len(columns))
    for column, shown in enumerate(columns):
        limits = _limits([grid for _, grid in shown])
        for row, (model, (title, grid)) in enumerate(zip(panels, shown, strict=True)):
            place = axes[row][column]
            image = draw(place, model, grid, limits)
            place.set_title(f"{model}\n{title}", fontsize="small")
            figure.colorbar(image, ax=place, format="%.3g")
    _save(figure, path)


def _limits(grids: Sequence[Grid]) -> tuple[float, float]:
    """The least and the greatest that a scale shows of all models; never equal."""
    known = np.concatenate([grid[np.isfinite(grid)] for grid in grids])
    if not len(known):
        return 0.0, 1.0
    low, high = (float(np.quantile(known, share)) for share in (1 - SHARE, SHARE))
    return low, high if high > low else low + (abs(low) or 1.0)


def _figure(rows: int, columns: int) -> tuple[Any, Any]:
    """An own canvas: no window, nothing global."""
    make: Any = optional.load("matplotlib.figure", "figures").Figure
    figure = make(figsize=(WIDE * columns, HIGH * rows), dpi=DPI, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _save(figure: Any, path: Path) -> None:
    with replacing_path(path) as new:
        figure.savefig(new, format=path.suffix.removeprefix("."))
