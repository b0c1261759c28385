"""Judges of moving digits: on clips whose digit and motion are known."""

import numpy as np
import pytest

from skipdit_jax.data.moving_digits import load_moving_digits
from skipdit_jax.evaluation.judges.moving_digits import centres, fit_clip_judge, speeds, windows

FRAMES = 4


def square(row, column, side=4, size=32):
    """A frame with one bright square whose top left corner is given."""
    frame = np.full((size, size, 1), -1.0)
    frame[row : row + side, column : column + side] = 1.0
    return frame


def test_centres_are_those_of_the_ink():
    clip = np.stack([square(3, 5), square(10, 20), np.full((32, 32, 1), -1.0)])[None]
    want = [[4.5, 6.5], [11.5, 21.5], [15.5, 15.5]]
    np.testing.assert_allclose(centres(clip)[0], want)


def test_speed_is_the_way_per_frame():
    clip = np.stack([square(3 + 3 * f, 5 + 4 * f) for f in range(3)])[None]
    np.testing.assert_allclose(speeds(clip), [5.0])


def test_windows_follow_the_digit_and_halve_it():
    here, there = (windows(square(*corner)[None, None]) for corner in ((3, 5), (11, 21)))
    assert np.array_equal(here, there), "at the wall too"
    assert here.shape == (1, 8, 8, 1)
    assert (here == 1).sum() == 4, "a square of four pixels becomes one of two"


@pytest.fixture(scope="module")
def judge():
    train = load_moving_digits("train", FRAMES)
    return fit_clip_judge(train.videos, train.labels)


def test_the_judge_knows_real_clips_it_has_not_seen(judge):
    test = load_moving_digits("test", FRAMES)
    assert judge.accuracy(test.videos, test.labels) > 0.95
    assert np.mean(judge.frames(test.videos) == test.labels[:, None]) > 0.95


def test_the_judge_does_not_see_digits_in_noise(judge):
    noise = np.random.default_rng(0).uniform(-1, 1, (100, FRAMES, 32, 32, 1))
    labels = np.arange(100) % 10
    assert judge.accuracy(noise, labels) < 0.3
