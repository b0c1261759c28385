"""The benchmark of the models of text runs, and its marks are right of real clips and pictures."""

import json
from functools import partial

import jax
import numpy as np
import pytest

import skipdit_jax as sd
from benchmarks import digit_texts
from skipdit_jax.data import digit_captions as captions
from skipdit_jax.data.captioned_digits import PLACE
from skipdit_jax.data.digits import load_digits
from skipdit_jax.data.moving_digits import ROOM, enlarge, load_moving_digits, render
from skipdit_jax.evaluation.judges import moving_digits
from skipdit_jax.evaluation.judges.digits import fit_digit_classifier
from skipdit_jax.evaluation.judges.moving_digits import fit_clip_judge
from skipdit_jax.registry import abstract_params

TINY = {"hidden_size": 8, "num_heads": 1, "in_channels": 1, "input_size": 32, "sample_size": 32}
WORDS = {"text_width": 64, "text_tokens": 24, "skip": True}
FRAMES = 8


def save(path, name, **changes):
    model = sd.create_model(name, **TINY, **WORDS, **changes)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: rng.normal(0, 0.2, leaf.shape).astype(np.float32), abstract_params(model)
    )
    sampling = {"steps": 3, "guidance": 2, "method": "ddpm"}
    sd.export_checkpoint(path, params, model, layout="native", sampling=sampling)
    return str(path)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What the command writes for N = 1."""
    folder = tmp_path_factory.mktemp("texts")
    clips = save(folder / "clips.safetensors", "LatteT2V-S/8-skip", depth=4, num_frames=2)
    pictures = save(folder / "pictures.safetensors", "PixArt-S/8-skip", depth=4)
    with pytest.MonkeyPatch.context() as patch:
        fit = partial(fit_digit_classifier, epochs=2)
        patch.setattr(moving_digits, "fit_digit_classifier", fit)
        argv = ["--clips", clips, "--pictures", pictures, "--count", "4", "--every", "1"]
        digit_texts.main([*argv, "--json", str(folder / "report.json")])
    return json.loads((folder / "report.json").read_text())


def test_both_models_are_asked_in_both_kinds_of_phrasing(report):
    names = [
        f"{a}, phrasings {b}" for a in ("clips", "pictures") for b in ("as in training", "held out")
    ]
    assert list(report["tables"]) == names
    full, cached = report["tables"][names[0]][:2]
    assert {"digit %", "way %", "nearest %", "pace %"} < set(full)
    assert {"digit %", "place %"} < set(report["tables"][names[2]][0])
    assert cached["PSNR dB"] > 100  # N = 1: two programs may round differently
    assert [full[name] for name in ("digit %", "way %")] == [
        cached[name] for name in ("digit %", "way %")
    ]


@pytest.mark.parametrize(
    "kind", [("CLIPS", "way"), ("CLIPS_HELD_OUT", "way"), ("PICTURES_HELD_OUT", "place")]
)
def test_what_is_asked_is_even(kind):
    name, needed = kind
    count = captions.TOLD[needed] * 10
    asked = digit_texts.ask(getattr(captions, name), needed, count, seed=0)
    assert len(asked.prompts) == count
    assert set(np.bincount(asked.values(needed))) == {10}
    meaning = dict(captions.sayings(getattr(captions, name)))
    assert [meaning[prompt] for prompt in asked.prompts] == asked.said


@pytest.fixture(scope="module")
def judge():
    real = load_moving_digits("train", 2)
    return fit_clip_judge(real.videos, real.labels)


@pytest.fixture(scope="module")
def glyphs():
    still = load_digits("test")
    return enlarge(still.images), still.labels


def test_marks_of_real_clips_are_full_and_of_backward_ones_empty(judge, glyphs):
    asked = digit_texts.ask(["{a} {slowly} moving {way}"], "way", 80, seed=0)
    digits, ways, paces = (asked.values(name) for name in ("digit", "way", "pace"))
    directions = np.array(
        [np.array(captions.WAYS[w]) / np.linalg.norm(captions.WAYS[w]) for w in ways]
    )
    speed = np.array([np.mean(captions.PACES[pace]) for pace in paces])
    times = np.arange(FRAMES) - (FRAMES - 1) / 2
    corners = ROOM / 2 + times[:, None] * (directions * speed[:, None])[:, None]  # [n, F, 2]
    clips = np.stack(
        [
            render(glyphs[0][[np.flatnonzero(glyphs[1] == digit)[row % 30]]], at[:, None])
            for row, (digit, at) in enumerate(zip(digits, corners, strict=True))
        ]
    )
    real = digit_texts.marks_of_clips(judge, clips, asked)
    assert real["digit %"] > 90
    assert [real[name] for name in ("way %", "nearest %", "pace %")] == [100.0] * 3
    backward = digit_texts.marks_of_clips(judge, clips[:, ::-1], asked)
    assert [backward[name] for name in ("way %", "nearest %")] == [0.0] * 2


def test_marks_of_real_pictures_are_full_and_of_others_few(judge, glyphs):
    asked = digit_texts.ask(["{a} {at}"], "place", 90, seed=0)
    middles = ROOM / 2 + (ROOM - PLACE) / 2 * np.array(captions.PLACES)[asked.values("place")]
    pictures = np.stack(
        [
            render(glyphs[0][[np.flatnonzero(glyphs[1] == digit)[row % 30]]], at[None, None])[0]
            for row, (digit, at) in enumerate(zip(asked.values("digit"), middles, strict=True))
        ]
    )
    real = digit_texts.marks_of_pictures(judge, pictures, asked)
    assert real["digit %"] > 90
    assert real["place %"] == 100.0
    other = digit_texts.marks_of_pictures(judge, np.roll(pictures, 1, axis=0), asked)
    assert other["place %"] < 40
