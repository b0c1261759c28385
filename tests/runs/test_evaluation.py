"""Numbers of samples while a model trains: the same noise each time, and what is refused before."""

import dataclasses

import numpy as np
import pytest

from skipdit_jax import runs
from skipdit_jax.runs.evaluation_config import EvaluationConfig
from skipdit_jax.training.logs import read_log
from skipdit_jax.training.loop import LoopConfig
from tests.cli.evaluation_kit import packed, put_in_place
from tests.cli.makers import small_model
from tests.evaluation.edges import pictures

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture(autouse=True)
def asked(monkeypatch, tmp_path):
    return put_in_place(monkeypatch, tmp_path)


@pytest.fixture
def config():
    config = runs.default_config()
    config.model.name, config.data.name = "DiT-S/2-skip", "digits"
    config.model.update(input_size=8, in_channels=1, num_classes=10, hidden_size=16, num_heads=2)
    config.model.depth = 2
    config.steps, config.batch_size, config.checkpoint_every, config.log_every = 4, 8, 2, 2
    config.lr, config.ema_decay = 1e-2, 0.5
    config.sampling.steps = "4"
    config.evaluate_every = 2
    config.evaluation = {"reference": "digits:test", "samples": 6, "batch_size": 4}
    return config


def test_a_resumed_run_has_the_numbers_of_one_that_was_not(tmp_path, config, asked):
    config.evaluation.metrics = ("fid", "kid", "is")
    runs.run_training(runs.prepare_training(config, tmp_path / "whole"))
    records = read_log(tmp_path / "whole" / "evaluation.jsonl")
    assert [record["step"] for record in records] == [2, 4]
    for record in records:
        assert record.keys() == {"step", "fid", "kid", "is"}
        assert all(np.isfinite(value) for value in record.values())
    assert records[0]["fid"] != records[1]["fid"]
    config.steps = 2
    runs.run_training(runs.prepare_training(config, tmp_path / "parts"))
    assert read_log(tmp_path / "parts" / "evaluation.jsonl") == records[:1]
    config.steps = 4
    runs.run_training(runs.prepare_training(config, tmp_path / "parts"))
    assert read_log(tmp_path / "parts" / "evaluation.jsonl") == records
    assert {choice.batch for choice in asked} == {4}


def test_what_was_lost_is_not_in_the_log_twice(tmp_path, config):
    config.steps, config.evaluate_every, config.checkpoint_every = 3, 1, 2

    def killed(done):
        if done == 3:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        runs.run_training(runs.prepare_training(config, tmp_path / "run"), stop=killed)
    path = tmp_path / "run" / "evaluation.jsonl"
    with path.open("a") as file:
        file.write('{"step": 3, "fid": -1.0}\n')  # of work that was lost
    runs.run_training(runs.prepare_training(config, tmp_path / "run"))
    records = read_log(path)
    assert [record["step"] for record in records] == [1, 2, 3]
    assert records[-1]["fid"] >= 0


def test_runs_that_evaluate_nothing_have_no_such_file(tmp_path, config, asked):
    config.evaluate_every, config.steps = 0, 2
    runs.run_training(runs.prepare_training(config, tmp_path / "run"))
    assert not (tmp_path / "run" / "evaluation.jsonl").exists()
    assert asked == []


def started(config, folder):
    """As train.py does before its first step."""
    job = runs.prepare_training(config, folder)
    with runs.RunFolder(job):
        pytest.fail("training began")


REFUSED = {
    "unknown metric": ({"metrics": ("fidd",)}, "metrics: found fidd, wanted some of fid"),
    "no metric": ({"metrics": ()}, "metrics: found none"),
    "pairs": ({"metrics": ("psnr", "is")}, "evaluation.metrics: found psnr, of pairs"),
    "no reference": ({"reference": ""}, "fid: found no reference, wanted one"),
    "reference missing": ({"reference": "none.npz"}, "none.npz: is not there"),
    "clips": ({"metrics": ("fvd",)}, "samples of the run: found samples of 8x8x1, wanted clips"),
    "too few": ({"samples": 1}, "fid: found 1 samples in samples of the run, wanted 2 or more"),
    "too few neighbours": ({"samples": 3, "metrics": ("pr",)}, "pr: found 3 samples"),
    "no samples": ({"samples": 0}, "evaluation.samples: found 0, wanted 1 or more"),
    "no batch": ({"batch_size": 0}, "evaluation.batch_size: found 0, wanted 1 or more"),
    "unknown rule": ({"resize": "clean"}, "evaluation.resize: found 'clean', wanted one of"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_evaluated_is_told_before_the_first_step(tmp_path, config, case):
    values, words = REFUSED[case]
    config.evaluation.update(values)
    with pytest.raises(ValueError, match=words.replace(".", r"\.")) as caught:
        started(config, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_damaged_reference_is_told_before_the_first_step(tmp_path, config):
    path = packed(tmp_path / "real.npz", pictures(3, shape=(8, 8, 1)))
    path.write_bytes(path.read_bytes()[:-30])
    config.evaluation.reference = str(path)
    with pytest.raises(ValueError, match=r"real\.npz: "):
        started(config, tmp_path / "run")


def test_models_of_latents_are_refused(tmp_path, config):
    job = runs.prepare_training(config, tmp_path / "run")
    latents = dataclasses.replace(job, model=small_model(in_channels=4))
    with pytest.raises(ValueError, match="evaluate_every: the model draws latents or reads texts"):
        runs.RunFolder(latents)


def test_defaults_are_those_that_the_page_tells():
    assert EvaluationConfig().metrics == ("fid",)
    assert LoopConfig(steps=1).evaluate_every == 0
    with pytest.raises(ValueError, match="evaluate_every: found -1, wanted 0 or more"):
        LoopConfig(steps=1, evaluate_every=-1)
