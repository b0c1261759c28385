"""A training run started from Python, as docs/training.md tells it."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax import runs

pytestmark = pytest.mark.usefixtures("compiled_once")

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


@pytest.fixture
def config():
    config = runs.default_config()
    config.model.name, config.data.name = "DiT-S/2-skip", "digits"
    config.model.update(input_size=8, in_channels=1, num_classes=10, hidden_size=16, num_heads=2)
    config.model.depth = 2
    config.steps, config.batch_size, config.checkpoint_every, config.log_every = 4, 8, 2, 2
    config.lr = 1e-2
    return config


def test_the_page_runs(tmp_path, monkeypatch, capsys):
    """Two small steps of two layers in place of 2,000 of twelve."""
    (code,) = re.findall(r"## From Python\n.*?```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    small = "hidden_size=16, num_heads=2, depth=2"
    smaller = {"2000, 64": "2, 4", "hidden_size=64, num_heads=4": small}
    for told, instead in smaller.items():
        assert told in code
        code = code.replace(told, instead)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, str(PAGE), "exec"), names)
    assert int(names["state"].step) == 2
    model, _ = sd.load_checkpoint("runs/mine")
    assert model.config == names["job"].model.config
    assert "'step': 2" in capsys.readouterr().out


def test_it_prints_nothing_by_itself_and_leaves_the_folder_of_train_py(tmp_path, config, capfd):
    seen = []
    runs.run_training(runs.prepare_training(config, tmp_path / "run"), watch=seen.append)
    assert [record["step"] for record in seen] == [2, 4]
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    left = {path.name for path in (tmp_path / "run").iterdir()}
    wanted = {"config.json", "metrics.jsonl", "tensorboard", "checkpoints", "ema.safetensors"}
    assert left == wanted


def test_a_stopped_run_goes_on_and_ends_at_the_same_numbers(tmp_path, config):
    whole = runs.run_training(runs.prepare_training(config, tmp_path / "whole"))
    config.steps = 2
    runs.run_training(runs.prepare_training(config, tmp_path / "parts"))
    config.steps = 4
    job = runs.prepare_training(config, tmp_path / "parts")
    assert any("at step 2" in note for note in job.notes)
    parts = runs.run_training(job)
    jax.tree.map(np.testing.assert_array_equal, parts.params, whole.params)
    jax.tree.map(np.testing.assert_array_equal, parts.ema, whole.ema)


def test_config_files_of_the_first_version_find_their_default_config():
    from skipdit_jax.cli.train_config import default_config

    assert default_config is runs.default_config
