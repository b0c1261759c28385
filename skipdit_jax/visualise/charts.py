"""Charts as SVG text, for pages that stand alone; colours and fonts are the page's (`report`)."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np

WIDTH, HEIGHT = 640, 320  # of a chart, in units of its view box
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 12, 44  # margins: numbers and titles stand there
TICKS = 6  # at most, of an axis
NICE = (1, 2, 5, 10)  # steps between ticks, times a power of ten
ROOM = 0.06  # of an axis beyond the outermost points
COLOURS = 8  # classes s0 to s7 of the page
Number = float | int
STEP, STRIP = 10, 14  # width of a step, and height of a strip


class Series(NamedTuple):
    """Points that belong together, joined by a line.

    Attributes:
      name: what to call them.
      x: of each point.
      y: of each.
      told: what each is called, or none.
    """

    name: str
    x: Sequence[Number]
    y: Sequence[Number]
    told: Sequence[str] = ()


class Axis(NamedTuple):
    """An axis in the view box: a value lies at `start + (value - low) * scale`."""

    low: Number
    high: Number
    start: Number
    scale: Number

    def at(self, value: Number) -> Number:
        """Where a value lies."""
        return self.start + (value - self.low) * self.scale

    def ticks(self) -> list[Number]:
        """Round values between the ends."""
        rough = (self.high - self.low) / TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(nice * power for nice in NICE if nice * power >= rough)
        first = math.ceil(self.low / step)
        return [step * i for i in range(first, math.floor(self.high / step) + 1)]


def chart(x_title: str, y_title: str, series: Sequence[Series]) -> str:
    """Points in a frame; what is no finite number is left out, and each point tells its numbers.

    Args:
      x_title: of the axis, with its unit.
      y_title: likewise.
      series: each has a colour of its own, and its name in the legend.
    """
    shown = [_finite(one) for one in series]
    shown = [one for one in shown if len(one.x)]
    if not shown:
        return ""
    x = _axis([v for one in shown for v in one.x], LEFT, WIDTH - RIGHT)
    y = _axis([v for one in shown for v in one.y], HEIGHT - BOTTOM, TOP)
    parts = [*_frame(x, y, x_title, y_title)]
    for number, one in enumerate(shown):
        parts += _drawn(one, number % COLOURS, x, y)
    legend = "".join(
        f'<span><i class="s{number % COLOURS}"></i>{escape(one.name)}</span>'
        for number, one in enumerate(shown)
    )
    told = escape(f"{y_title} against {x_title}: {', '.join(one.name for one in shown)}")
    body = "".join(parts)
    return (
        f'<figure class="chart"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{told}">{body}</svg><figcaption>{legend}</figcaption></figure>'
    )


def strip(computed: Sequence[bool], told: str) -> str:
    """A cell for each step: filled where it was computed.

    Args:
      computed: of each step.
      told: what that is, for those who cannot see it.
    """
    cells = "".join(
        f'<rect class="{"full" if one else "reused"}" x="{STEP * i}" width="{STEP - 1}" '
        f'height="{STRIP}"><title>step {i}: {"computed" if one else "reused"}</title></rect>'
        for i, one in enumerate(computed)
    )
    width = STEP * len(computed)
    return (
        f'<svg class="strip" viewBox="0 0 {width} {STRIP}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(told)}">{cells}</svg>'
    )


def _finite(one: Series) -> Series:
    kept = [i for i, xy in enumerate(zip(one.x, one.y, strict=True)) if np.isfinite(xy).all()]
    told = [one.told[i] for i in kept] if one.told else ()
    return one._replace(x=[one.x[i] for i in kept], y=[one.y[i] for i in kept], told=told)


def _axis(values: Sequence[Number], start: Number, end: Number) -> Axis:
    low, high = min(values), max(values)
    room = ROOM * (high - low) or ROOM * abs(high) or 1.0
    low, high = low - room, high + room
    return Axis(low, high, start, (end - start) / (high - low))


def _frame(x: Axis, y: Axis, x_title: str, y_title: str) -> list[str]:
    """Grid lines with their numbers, and the titles."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for value in x.ticks():
        place = x.at(value)
        parts.append(f'<path class="grid" d="M{place:.1f} {TOP}V{bottom}"/>')
        parts.append(f'<text class="x" x="{place:.1f}" y="{bottom + 16}">{value:g}</text>')
    for value in y.ticks():
        place = y.at(value)
        parts.append(f'<path class="grid" d="M{LEFT} {place:.1f}H{right}"/>')
        parts.append(f'<text class="y" x="{LEFT - 6}" y="{place + 4:.1f}">{value:g}</text>')
    middle = (LEFT + right) / 2, (TOP + bottom) / 2
    turned = f'transform="translate(14 {middle[1]}) rotate(-90)"'
    parts.append(f'<text class="x" x="{middle[0]}" y="{HEIGHT - 6}">{escape(x_title)}</text>')
    parts.append(f'<text class="x" {turned}>{escape(y_title)}</text>')
    return parts


def _drawn(one: Series, number: int, x: Axis, y: Axis) -> list[str]:
    places = [(x.at(a), y.at(b)) for a, b in zip(one.x, one.y, strict=True)]
    parts = []
    if len(places) > 1:
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        parts.append(f'<polyline class="s{number}" points="{points}"/>')
    for i, (a, b) in enumerate(places):
        name = one.told[i] if one.told else one.name
        told = escape(f"{name}: {one.x[i]:.4g}, {one.y[i]:.4g}")
        parts.append(
            f'<circle class="s{number}" cx="{a:.1f}" cy="{b:.1f}" r="4"><title>{told}</title>'
            "</circle>"
        )
    return parts
