"""A native file that recommends a calibrated cache: where it is followed, and what else is."""

import json

import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.cli import calibrate, sample
from skipdit_jax.runs import load_sampler
from tests.cli import makers

FILE = "fast.json"


@pytest.fixture(scope="module")
def recommending(tmp_path_factory):
    """Weights, and beside them a list of 3 computed steps, where N3 computes as many."""
    folder = tmp_path_factory.mktemp("recommending")
    stated = {"steps": makers.STEPS, "cache": "N3"}
    metadata = {"sampling": {**stated, "calibrated": FILE}}
    path = makers.save_small(folder / "small.safetensors", metadata)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrate, "use_compilation_cache", lambda: None)
        flags = ["--samples", "4", "--full", "3", "--out", str(folder / FILE)]
        calibrate.main(["--ckpt", str(path), *flags])
    return path


def told(capsys, path, *flags):
    assert sample.main(["--ckpt", str(path), "--class-labels", "1", *flags]) == 0
    return capsys.readouterr().out


def test_it_is_followed_where_nothing_is_typed(recommending, capsys):
    full = json.loads((recommending.parent / FILE).read_text())["cache"]
    assert full.startswith("skip-cache(branch=1, full=(0, ")
    found = told(capsys, recommending)
    assert f"cache {recommending.parent / FILE}" in found
    assert "3 steps computed, 5 reused" in found
    loaded = load_sampler(recommending).sampler
    listed = sd.Sampler(loaded.program.model, steps=makers.STEPS, cache=full)
    assert np.array_equal(loaded.plan.reuse, listed.plan.reuse)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--num-sampling-steps", "12"], "N3 is followed instead"),
        (["--cache", "N2"], "cache N2-1000-20 at branch 1"),
        (["--cache-step", "4"], "cache N4-1000-20 at branch 1"),
        (["--cfg-scale", "2"], "made for guidance 4, found 2"),
    ],
)
def test_what_is_typed_and_other_runs_come_first(recommending, capsys, flags, words):
    assert words in told(capsys, recommending, *flags)


def test_weights_alone_follow_the_plain_cache(recommending, tmp_path, capsys):
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(recommending.read_bytes())
    assert "cache N3-1000-20 at branch 1" in told(capsys, alone)


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"cache": "N3", "calibrated": "../fast.json"}, "wanted the name of a file beside it"),
        ({"calibrated": FILE}, "calibrated without cache"),
    ],
)
def test_recommendations_of_no_use_are_refused(tmp_path, capsys, stated, words):
    metadata = {"sampling": {"steps": makers.STEPS, **stated}}
    path = makers.save_small(tmp_path / "small.safetensors", metadata)
    with pytest.raises(SystemExit) as caught:
        sample.main(["--ckpt", str(path)])
    assert caught.value.code == 2
    assert words in capsys.readouterr().err
