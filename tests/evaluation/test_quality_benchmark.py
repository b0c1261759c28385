"""The quality benchmark runs, on models of a few hundred weights, and is right about N = 1."""

import json
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

import skipdit_jax as sd
from benchmarks import quality
from benchmarks.digit_models import load_subject, make_cases
from skipdit_jax.evaluation.judges.digits import fit_digit_classifier
from skipdit_jax.registry import abstract_params

TINY = {"depth": 4, "hidden_size": 8, "num_heads": 1, "num_classes": 10, "in_channels": 1}
METADATA = {"diffusion": {"schedule": "squaredcos_cap_v2"}, "sampling": {"steps": 3, "guidance": 2}}


def save(path, name, **changes):
    model = sd.create_model(name, **{**TINY, "input_size": 8, **changes})
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: rng.normal(0, 0.2, leaf.shape).astype(np.float32), abstract_params(model)
    )
    sd.export_checkpoint(path, params, model, layout="native", **METADATA)
    return str(path)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What the command writes for N = 1."""
    folder = tmp_path_factory.mktemp("quality")
    skip = save(folder / "skip.safetensors", "DiT-S/2-skip")
    argv = ["--skip", skip, "--per-class", "1", "--batch", "5", "--every", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality, "fit_digit_classifier", partial(fit_digit_classifier, epochs=1))
        quality.main([*argv, "--json", str(folder / "report.json")])
    return json.loads((folder / "report.json").read_text())


def test_rows_of_the_model_and_of_real_digits(report):
    assert [(row["model"], row["sampling"]) for row in report["rows"]] == [
        ("Skip-DiT", "no cache"),
        ("Skip-DiT", "Skip-Cache N1-1000-20"),
        ("Skip-DiT", "no cache, 3 steps"),
        ("real digits", "10 of the training split"),
        ("real digits", "training split, 1442"),
        ("real digits", "test split, 355"),
    ]


def test_computing_every_step_changes_nothing(report):
    full, *others = report["rows"][:3]
    assert full["PSNR dB"] == ""
    for row in others:
        assert row["PSNR dB"] > 100  # two programs may round differently
        same = ("computed + reused", "ceiling", "accuracy %")
        assert [row[name] for name in same] == ["3 + 0", 1.0, full["accuracy %"]]


def test_the_plain_twin_is_cached_by_two_baselines(tmp_path):
    flags = quality.read_flags(["--every", "2", "--steps", "8"])
    plain = load_subject(Path(save(tmp_path / "plain.safetensors", "DiT-S/2")), flags)
    cases = {case.name: case.summary for case in make_cases(plain, flags)}
    # 8 steps, 4 of them cached, which compute 2 and 0 of 4 blocks: 24 and 16 of 32
    assert {name: (s.cached_steps, s.ceiling) for name, s in cases.items()} == {
        "no cache": (0, 1.0),
        "blocks 1..2, N=2": (4, 32 / 24),
        "all blocks, N=2": (4, 2.0),
        "no cache, 6 steps": (0, 1.0),
        "no cache, 4 steps": (0, 1.0),
    }


def test_the_recommended_settings_are_told(report):
    facts = report["facts"]
    assert "steps 3, method ddpm, guidance 2.0" in facts["Skip-DiT"]
    assert "clip True, diffusion squaredcos_cap_v2" in facts["Skip-DiT"]


def test_training_pictures_are_their_own_nearest(report):
    nearest = [row["to training"] for row in report["rows"][-3:]]
    assert nearest[0] == nearest[1] == 0.0
    assert nearest[2] > 0.1


def test_nearest_by_hand():
    others = np.array([[0.0, 0.0], [3.0, 1.0]]).reshape(2, 1, 2, 1)
    images = np.array([[1.0, 1.0], [3.0, 1.0], [4.0, 4.0]]).reshape(3, 1, 2, 1)
    got = quality.to_nearest(images, others)
    np.testing.assert_allclose(got, [1.0, 0.0, np.sqrt(5.0)], atol=1e-7)


def test_bad_input_is_told_in_one_line(tmp_path, capsys):
    large = save(tmp_path / "large.safetensors", "DiT-S/2-skip", input_size=16)
    for argv, words in (
        (["--skip", str(tmp_path / "none")], "none"),
        (["--skip", large], "wanted (8, 8, 1) of 10"),
        (["--per-class", "0"], "wanted 1 or more"),
    ):
        with pytest.raises(SystemExit) as exit_:
            quality.main(argv)
        assert exit_.value.code == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
