"""train.py on clips: moving digits, alone and with independent images, to weights for sample.py."""

import numpy as np
import pytest

import skipdit_jax as sd
from configs import latte_digits, latte_ffs, latte_sky, latte_taichi, latte_ucf101
from skipdit_jax import registry
from skipdit_jax.cli import train
from skipdit_jax.runs.train_config import read_train_config
from skipdit_jax.training.logs import read_log

pytestmark = [
    pytest.mark.filterwarnings(r"ignore:the load_module\(\):DeprecationWarning"),
    pytest.mark.usefixtures("compiled_once"),
]
TINY = {
    "steps": 4,
    "batch_size": 2,
    "warmup_steps": 1,
    "log_every": 2,
    "checkpoint_every": 2,
    "model.depth": 4,
    "model.hidden_size": 8,
    "model.num_heads": 2,
    "model.name": "Latte-S/8-skip",
    "model.num_frames": 2,
    "sampling.steps": 2,
    "sampling.cache": "",  # two stages leave nothing to save
}


def run(workdir, **changes):
    values = {**TINY, **{name.replace("__", "."): value for name, value in changes.items()}}
    overrides = [f"--config.{name}={value}" for name, value in values.items()]
    flags = [f"--config={latte_digits.__file__}", f"--workdir={workdir}", *overrides]
    assert train.main(flags) == 0
    return read_log(workdir / "metrics.jsonl")


@pytest.mark.parametrize(
    "changes",
    [{"sample_every": 4}, {"data__use_image_num": 1, "model__num_classes": 0}],
    ids=["clips", "joint, unconditional"],
)
def test_a_run_on_clips_ends_in_weights_that_sample(tmp_path, changes):
    records = run(tmp_path / "run", **changes)
    assert [record["step"] for record in records] == [2, 4]
    assert all(np.isfinite(record["loss"]) for record in records)
    assert (tmp_path / "run" / "samples").is_dir() == ("sample_every" in changes)
    model, params = sd.load_checkpoint(tmp_path / "run" / "ema.safetensors")
    assert registry.family_of(model) == "latte"
    assert model.config.sample_shape == (2, 32, 32, 1)
    assert params["blocks_3"]["attn"]["qkv"]["kernel"].shape == (8, 24)


def test_a_joint_run_continues_as_if_it_had_not_stopped(tmp_path):
    same = {"data__use_image_num": 2, "lr_schedule": "constant"}
    run(tmp_path / "parts", steps=2, **same)
    parts, whole = (run(tmp_path / name, **same) for name in ("parts", "whole"))
    assert [record["loss"] for record in parts] == [record["loss"] for record in whole]


PUBLISHED = {latte_ucf101: 101, latte_ffs: 0, latte_sky: 0, latte_taichi: 0}


@pytest.mark.parametrize("config", PUBLISHED, ids=lambda module: module.__name__)
def test_the_published_settings(config):
    """16 frames at stride 3, 8 images, lr 1e-4 falling linearly, clipping to 0.1, EMA 0.9999."""
    found = read_train_config(config.get_config())
    model = registry.create_model(**found.model)
    assert (model.config.num_frames, model.config.num_classes) == (16, PUBLISHED[config])
    assert (model.num_stages, model.num_skips) == (14, 7)
    assert (found.data.frame_stride, found.data.use_image_num) == (3, 8)
    assert (found.optimizer.lr, found.optimizer.schedule) == (1e-4, "linear")
    assert (found.optimizer.clip_norm, found.ema_decays) == (0.1, (0.9999,))
    assert found.optimizer.clip_from > 0
    assert (found.sampling["steps"], found.sampling["guidance"]) == (
        "250",
        7.0 if PUBLISHED[config] else 1.0,
    )
