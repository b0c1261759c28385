"""Reports: charts and files have the numbers given, pages work in a browser, texts do no harm."""

import base64
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from skipdit_jax.visualise import charts
from skipdit_jax.visualise.grids import CELL
from skipdit_jax.visualise.report import Samples, Section, page, write_report
from tests.visualise.pages import visited

NASTY = "<script>alert(1)</script>\"'&$title"


def section(pictures, **more):
    rows = [Samples(name, pictures) for name in ("full", NASTY)]
    row = {"way": NASTY, "seconds": 0.123456, "PSNR dB": float("inf"), "steps": 8}
    curve = charts.chart("x", NASTY, [charts.Series(NASTY, [0, 1], [2.0, 3.0])])
    return Section(
        title=NASTY,
        facts={NASTY: NASTY},
        tables={"table": [row]},
        samples=rows,
        charts={"chart": curve},
        strips={NASTY: charts.strip([True, False], NASTY)},
        notes=[NASTY],
        columns=[NASTY] * len(pictures),
        **more,
    )


def random(*shape):
    return np.random.default_rng(0).integers(256, size=shape).astype(np.uint8)


def points(svg):
    found = ElementTree.fromstring(svg).iter("circle")
    return [(float(one.get("cx")), float(one.get("cy")), one.find("title").text) for one in found]


def test_points_lie_where_their_numbers_say():
    x, y = [1.0, 2.0, 4.0], [10.0, 30.0, 20.0]
    found = points(charts.chart("s", "dB", [charts.Series("a", x, y, ["p", "q", "r"])]))
    places = np.array([place[:2] for place in found])
    # Straight lines through two points foretell the third, on both axes.
    for column, values in zip(places.T, (x, y), strict=True):
        slope = (column[1] - column[0]) / (values[1] - values[0])
        assert column[2] == pytest.approx(column[0] + slope * (values[2] - values[0]), abs=0.1)
    assert places[0, 0] < places[1, 0] < places[2, 0]
    assert places[1, 1] < places[2, 1] < places[0, 1], "up is more"
    assert [told for *_, told in found] == ["p: 1, 10", "q: 2, 30", "r: 4, 20"]


def test_ticks_are_round_and_lie_at_their_values():
    svg = ElementTree.fromstring(
        charts.chart("s", "dB", [charts.Series("a", [0.013, 0.029], [5.0, 5.0])])
    )
    ticks = [t for t in svg.iter("text") if t.get("class") == "x" and t.get("x") and t.text != "s"]
    values = [float(t.text) for t in ticks]
    np.testing.assert_allclose(np.diff(values), np.diff(values)[0])
    assert 3 <= len(values) <= charts.TICKS + 1
    left, right = (place[0] for place in points(ElementTree.tostring(svg)))
    for tick, value in zip(ticks, values, strict=True):
        place = left + (right - left) * (value - 0.013) / 0.016
        assert float(tick.get("x")) == pytest.approx(place, abs=0.2)


def test_what_is_no_number_is_left_out():
    svg = charts.chart("s", "dB", [charts.Series("a", [1, 2, 3], [np.inf, np.nan, 5.0])])
    assert len(points(svg)) == 1
    assert charts.chart("s", "dB", [charts.Series("a", [1], [np.inf])]) == ""


def test_a_strip_has_a_cell_for_each_step():
    cells = ElementTree.fromstring(charts.strip([True, False, True], "told")).findall("rect")
    assert [cell.get("class") for cell in cells] == ["full", "reused", "full"]


def test_texts_do_no_harm():
    text = page(NASTY, [section(random(2, 4, 4, 3))])
    assert "<script>alert" not in text
    scripts = re.findall(r"<script", text)
    assert len(scripts) == 1
    tags = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag, attributes):
            tags.append((tag, dict(attributes)))

    Tags().feed(text)
    alts = {given["alt"] for tag, given in tags if tag == "img" and given["alt"]}
    assert alts == {f"full, {NASTY}", f"{NASTY}, {NASTY}"}


def test_pictures_come_back_and_numbers_are_json(tmp_path):
    pictures = random(2, 4, 4, 3)
    numbers = {"a": np.float32(0.5), "b": [float("inf"), 1], "c": np.arange(2)}
    write_report(tmp_path / "r.html", "title", [section(pictures)], numbers)
    assert json.loads((tmp_path / "r.json").read_text()) == {"a": 0.5, "b": [None, 1], "c": [0, 1]}
    found = re.findall(
        r'<img src="data:image/png;base64,([^"]+)"', (tmp_path / "r.html").read_text()
    )
    shown = [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in found]
    assert len(shown) == 4
    factor = CELL // 4
    for one, picture in zip(shown, [*pictures, *pictures], strict=True):
        np.testing.assert_array_equal(one[::factor, ::factor], picture)


def test_pages_work_in_a_browser(tmp_path):
    write_report(tmp_path / "r.html", NASTY, [section(random(3, 4, 4, 1))], {})
    told, console = visited(tmp_path / "r.html", tmp_path)
    assert console == []
    assert told == {"pictures": "6", "shown": "6", "opened": "true", "stills": "0"}


def test_clips_play_and_pause(tmp_path):
    write_report(tmp_path / "r.html", "clips", [section(random(2, 5, 4, 4, 3), fps=4)], {})
    text = (tmp_path / "r.html").read_text()
    moving = base64.b64decode(re.search(r'data-moving="data:image/png;base64,([^"]+)"', text)[1])
    with Image.open(io.BytesIO(moving)) as clip:
        assert clip.n_frames == 5
        assert clip.info["duration"] == 250
    told, console = visited(tmp_path / "r.html", tmp_path)
    assert console == []
    assert told == {"pictures": "4", "shown": "4", "opened": "true", "stills": "4"}


@pytest.mark.parametrize(
    ("change", "by"),
    [
        ("base64,iVBOR", "base64,AAAA"),  # no picture
        ('"use strict";', '"use strict"; nothing();'),
    ],
)
def test_damaged_pages_are_noticed(tmp_path, change, by):
    write_report(tmp_path / "r.html", "title", [section(random(2, 4, 4, 1))], {})
    text = (tmp_path / "r.html").read_text()
    (tmp_path / "r.html").write_text(text.replace(change, by))
    told, console = visited(tmp_path / "r.html", tmp_path)
    assert console or told["shown"] != told["pictures"] or told["opened"] != "true"
