"""Checkpoints of Latte: both layouts and back, and the table of frames."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import skipdit_jax as sd
from skipdit_jax.trees import flatten
from tests.networks import apply, random_params

TINY = {"depth": 4, "hidden_size": 16, "num_heads": 2, "input_size": 4, "num_frames": 4}


def make(**changes):
    model = sd.create_model("Latte-S/2-skip", **{**TINY, **changes})
    return model, random_params(model)


@pytest.fixture(params=["native", "torch"])
def saved(request, tmp_path):
    """(path, model, parameters) of a model with labels."""
    model, params = make(num_classes=3)
    path = tmp_path / "latte.safetensors"
    sd.export_checkpoint(path, params, model, layout=request.param)
    return path, model, params


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("changes", [{}, {"num_classes": 3}, {"skip": False}])
def test_a_round_trip_is_exact(tmp_path, suffix, changes):
    model, params = make(**changes)
    path = tmp_path / f"x{suffix}"
    sd.export_checkpoint(path, params, model)
    read, back = sd.load_checkpoint(path, num_heads=2)
    # A state dict does not show the dropout of a model without classes.
    drop = {} if model.config.num_classes else {"class_dropout_prob": 0.0}
    assert read.config == dataclasses.replace(model.config, **drop)
    for name, leaf in flatten(params).items():
        assert np.array_equal(flatten(back)[name], leaf), name


def test_fewer_frames_take_the_first_rows(saved):
    path, model, params = saved
    short, read = sd.load_checkpoint(path, num_heads=2, num_frames=3)
    x = jax.random.normal(jax.random.key(2), (2, *short.config.sample_shape))
    inputs = x, jnp.array([10.0, 700.0]), jnp.array([0, 2])
    assert np.array_equal(apply(short, read, *inputs), apply(model, params, *inputs))


def test_more_frames_than_the_weights_know_are_refused(saved):
    path, _, _ = saved
    with pytest.raises(sd.CheckpointError, match=r"num_frames 4, wanted 5|\(1, 4, 16\).*\(1, 5"):
        sd.load_checkpoint(path, num_heads=2, num_frames=5)


def test_a_table_of_other_frames_is_refused(tmp_path):
    """As if another model had numbered its frames from one."""
    model, params = make()
    path = tmp_path / "x.safetensors"
    sd.export_checkpoint(path, params, model)
    tensors = load_file(path)
    tensors["temp_embed"] = np.roll(tensors["temp_embed"], 1, axis=1)
    save_file(tensors, path)
    with pytest.raises(sd.CheckpointError, match="temp_embed differs by"):
        sd.load_checkpoint(path, num_heads=2)


def test_half_precision_keeps_its_rounded_tables(tmp_path):
    model, params = make()
    path = tmp_path / "x.safetensors"
    sd.export_checkpoint(path, params, model)
    halves = {name: array.astype(np.float16) for name, array in load_file(path).items()}
    save_file(halves, path)
    read, stored = sd.load_checkpoint(path, num_heads=2)
    for name in ("temp_embed", "pos_embed"):
        assert np.array_equal(stored[name], halves[name].astype(np.float32))
    x = jnp.ones((1, *model.config.sample_shape))
    changed = {**stored, "temp_embed": jnp.roll(stored["temp_embed"], 1, axis=2)}
    one, two = (read.apply({"params": p}, x, jnp.zeros(1)) for p in (stored, changed))
    assert np.abs(np.asarray(one) - np.asarray(two)).max() > 1e-4


def test_an_odd_number_of_blocks_is_no_latte(tmp_path):
    model, params = make()
    path = tmp_path / "x.safetensors"
    sd.export_checkpoint(path, params, model)
    kept = {n: a for n, a in load_file(path).items() if not n.startswith("blocks.3.")}
    save_file(kept, path)
    with pytest.raises(sd.CheckpointError, match="3 blocks, wanted pairs"):
        sd.load_checkpoint(path, num_heads=2)
