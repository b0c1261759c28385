"""The curve of what a cache compared: marks of both kinds of step, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from skipdit_jax.visualise import curves

pytest.importorskip("matplotlib")
COMPARED = np.float32([0, 0.3, 0.1, 0.2])


def colours(path):
    return {tuple(colour[:3]) for colour in np.asarray(Image.open(path)).reshape(-1, 4)}


def rgb(text):
    return tuple(int(text[i : i + 2], 16) for i in (1, 3, 5))


def test_computed_and_reused_steps_are_marked(tmp_path):
    both, all_computed = tmp_path / "both.png", tmp_path / "all.png"
    curves.plot_decisions(both, np.int32([1, 1, 0, 1]), COMPARED)
    curves.plot_decisions(all_computed, np.int32([1, 1, 1, 1]), COMPARED)
    assert {rgb(curves.COMPUTED), rgb(curves.REUSED)} <= colours(both)
    assert rgb(curves.COMPUTED) in colours(all_computed)


def test_runs_of_several_samples_are_refused(tmp_path):
    path = tmp_path / "curve.png"
    with pytest.raises(ValueError, match=r"found shapes \(2, 4\) and \(2, 4\), wanted \[S\]"):
        curves.plot_decisions(path, np.ones((2, 4), np.int32), np.stack([COMPARED] * 2))
    assert not path.exists()
