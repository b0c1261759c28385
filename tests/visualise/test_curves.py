"""The bars of what a cache compared: heights, both kinds of step, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from skipdit_jax.visualise import curves


def test_bars_are_as_high_as_the_numbers_and_coloured_by_kind(tmp_path):
    path = tmp_path / "curve.png"
    compared = np.float32([0, 0.4, 0.1, 0.2])
    curves.plot_decisions(path, np.int32([1, 1, 0, 1]), compared)
    picture = np.asarray(Image.open(path))
    pixels = [picture[: curves.HEIGHT, step * (curves.BAR + curves.GAP)] for step in range(4)]
    heights = [int((column != curves.PAPER).any(axis=1).sum()) for column in pixels]
    assert heights == [0, curves.HEIGHT, curves.HEIGHT // 4, curves.HEIGHT // 2]
    strip = [tuple(picture[-1, step * (curves.BAR + curves.GAP)].tolist()) for step in range(4)]
    assert strip == [curves.COMPUTED, curves.COMPUTED, curves.REUSED, curves.COMPUTED]


def test_runs_of_several_samples_are_refused(tmp_path):
    path = tmp_path / "curve.png"
    with pytest.raises(ValueError, match=r"found shapes \(2, 4\) and \(2, 4\), wanted \[S\]"):
        curves.plot_decisions(path, np.ones((2, 4), np.int32), np.ones((2, 4), np.float32))
    assert not path.exists()
