"""The bundled moving digits show what they are asked for, with and without cache."""

import jax
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.data.moving_digits import load_moving_digits
from skipdit_jax.evaluation.judges.moving_digits import fit_clip_judge, speeds
from skipdit_jax.registry import ASSETS

DIGITS = list(range(10))
STEPS, GUIDANCE = 20, 2.0
LEAST = 0.8  # of 10 clips in few steps; benchmarks/clips.py has the figures of whole runs


@pytest.fixture(scope="module")
def bundled():
    return sd.load_checkpoint(ASSETS / "latte_digits.safetensors")


@pytest.fixture(scope="module")
def judge():
    real = load_moving_digits("train", 4)
    return fit_clip_judge(real.videos, real.labels)


@pytest.mark.parametrize("cache", [None, sd.SkipCache(every=2)], ids=str)
def test_clips_show_the_asked_digit_and_move(bundled, judge, cache):
    model, params = bundled
    key = jax.random.key(0)
    drawn = sd.sample(model, params, key, DIGITS, steps=STEPS, guidance=GUIDANCE, cache=cache)
    clips = np.asarray(drawn)
    assert judge.accuracy(clips, np.array(DIGITS)) >= LEAST
    assert 0.5 < speeds(clips).mean() < 2.0  # real ones move by 1 to 2 pixels, less at the walls
