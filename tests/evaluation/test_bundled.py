"""The bundled models show what they are asked for, with and without cache."""

import jax
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.data.digit_captions import PLACES, WAYS, Said, caption_of
from skipdit_jax.data.moving_digits import load_moving_digits
from skipdit_jax.evaluation.judges.moving_digits import centres, fit_clip_judge, speeds
from skipdit_jax.registry import ASSETS, CLIPS_OF_TEXT, PICTURES_OF_TEXT
from skipdit_jax.weights import condition_of, embed_prompts

DIGITS = list(range(10))
STEPS, GUIDANCE = 20, 2.0
LEAST = 0.8  # of 10 clips in few steps; benchmarks/clips.py has the figures of whole runs
UNKNOWN = {
    CLIPS_OF_TEXT: ("watch {a} drift {wards}", "way", len(WAYS)),
    PICTURES_OF_TEXT: ("{near} you see {a}", "place", len(PLACES)),
}
"""Of the phrasings that neither the models nor their text encoder was trained on."""


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


@pytest.fixture(scope="module", params=[None, sd.SkipCache(every=2, branch=1)], ids=str)
def told(request):
    """Draws ten digits of a model of text, each asked for in a phrasing it does not know."""

    def draw(name):
        phrasing, thing, count = UNKNOWN[name]
        said = [Said(digit=digit, **{thing: digit % count}) for digit in DIGITS]
        prompts = [caption_of(phrasing, one) for one in said]
        model, params = sd.load_checkpoint(name)
        embeds = embed_prompts(model, [*prompts, ""], {"t5": "digit-words"})
        options = {"steps": STEPS, "method": "ddpm", "guidance": 3.0, "cache": request.param}
        condition = condition_of(model, embeds, prompts)
        drawn = sd.sample(model, params, jax.random.key(0), condition, **options)
        return np.asarray(drawn), [getattr(one, thing) for one in said]

    return draw


def test_words_become_clips_of_that_digit_that_go_that_way(told, judge):
    clips, ways = told(CLIPS_OF_TEXT)
    moved = np.diff(centres(clips), axis=1).mean(axis=1)
    wanted = np.array([WAYS[way] for way in ways])
    assert judge.accuracy(clips, np.array(DIGITS)) >= LEAST
    assert np.mean(np.all((wanted == 0) | (np.sign(moved) == wanted), axis=1)) >= LEAST


def test_words_become_pictures_of_that_digit_at_that_place(told, judge):
    pictures, places = told(PICTURES_OF_TEXT)
    away = centres(pictures[:, None])[:, 0] - (pictures.shape[1] - 1) / 2
    wanted = np.array([PLACES[place] for place in places])
    assert judge.accuracy(pictures[:, None], np.array(DIGITS)) >= LEAST
    assert np.mean(np.all(np.abs(away / 6.5 - wanted) < 0.5, axis=1)) >= LEAST
