"""The benchmark of clips runs, on a model of a few hundred weights, and is right about N = 1."""

import json
from functools import partial

import jax
import numpy as np
import pytest

import skipdit_jax as sd
from benchmarks import clips
from skipdit_jax.evaluation.judges import moving_digits
from skipdit_jax.evaluation.judges.digits import fit_digit_classifier
from skipdit_jax.registry import abstract_params

TINY = {"depth": 8, "hidden_size": 8, "num_heads": 1, "num_classes": 10, "in_channels": 1}


def save(path, **changes):
    fields = {**TINY, "input_size": 32, "num_frames": 2, **changes}
    model = sd.create_model("Latte-S/8-skip", **fields)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: rng.normal(0, 0.2, leaf.shape).astype(np.float32), abstract_params(model)
    )
    sampling = {"steps": 3, "guidance": 2}
    sd.export_checkpoint(path, params, model, layout="native", sampling=sampling)
    return str(path)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What the command writes for N = 1."""
    folder = tmp_path_factory.mktemp("clips")
    source = save(folder / "latte.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        fit = partial(fit_digit_classifier, epochs=2)
        patch.setattr(moving_digits, "fit_digit_classifier", fit)
        argv = ["--source", source, "--per-class", "1", "--batch", "5", "--every", "1"]
        clips.main([*argv, "--json", str(folder / "report.json")])
    return json.loads((folder / "report.json").read_text())


def test_rows_of_the_model_and_of_real_clips(report):
    names = [row["sampling"] for row in report["rows"]]
    assert names[:2] == ["no cache", "Skip-Cache N1-900-49"]
    assert names[-1] == "real clips of the test split, 355"
    assert "steps 3, method ddpm, guidance 2.0" in report["facts"]["Latte-skip"]


def test_computing_every_step_changes_nothing(report):
    full, cached = report["rows"][:2]
    assert cached["PSNR dB"] > 100  # two programs may round differently
    for name in ("computed + reused", "clips %", "frames %"):
        assert full[name] == cached[name]


def test_real_clips_are_recognised_and_move_as_they_were_made(report):
    real = report["rows"][-1]
    assert real["clips %"] > 90
    assert 0.9 < real["speed"] < 2.0  # 1 to 2 pixels a frame, less where they bounce


def test_a_model_of_other_frames_is_told_in_one_line(tmp_path, capsys):
    other = save(tmp_path / "other.safetensors", input_size=16)
    with pytest.raises(SystemExit) as caught:
        clips.main(["--source", other])
    assert caught.value.code == 2
    assert "wanted (32, 32, 1) of 10" in capsys.readouterr().err
