"""Claims of a file against what it holds: who makes the network himself is not held to them."""

import numpy as np
import pytest

from skipdit_jax.checkpoints import CheckpointError, claims, safetensors_files
from skipdit_jax.checkpoints.arrays import ArraySpec
from skipdit_jax.checkpoints.safetensors_files import write_safetensors_file
from skipdit_jax.weights import load_checkpoint, networks, open_weights
from tests.checkpoints.states import torch_state, write_state
from tests.cli import makers


@pytest.mark.parametrize(
    ("limit", "value", "told"),
    [
        (
            "MAX_TABLE",
            63,
            "with pos_embed of 4 x 16 numbers, wanted at most 63",
        ),
        ("MAX_BLOCKS", 3, "describes a network of 4 blocks, wanted at most 3"),
        ("MAX_SHARING", 0, "they share their numbers"),
    ],
)
def test_a_network_of_ones_own_is_bound_by_no_limit(tmp_path, monkeypatch, limit, value, told):
    path = makers.save_small(tmp_path / "small.safetensors")
    monkeypatch.setattr(claims, limit, value)
    with pytest.raises(CheckpointError, match=told):
        load_checkpoint(path)
    assert "skip_fusions_1" in load_checkpoint(path, makers.small_model())


def test_a_large_table_of_another_width_is_told_before_it_is_made(tmp_path, monkeypatch):
    arrays = torch_state(True)
    arrays["pos_embed"] = np.zeros((1, 4, 9), np.float32)
    path = write_state(tmp_path / "small.pt", arrays)
    monkeypatch.setattr(claims, "SMALL_TABLE", 31)
    monkeypatch.setattr(networks.registry, "abstract_params", lambda network: pytest.fail("traced"))
    with pytest.raises(CheckpointError, match=r"shape \(1, 4, 9\), wanted \(1, 4, 8\)"):
        load_checkpoint(path, num_heads=2)


def test_nothing_is_written_that_would_not_be_read(tmp_path, monkeypatch):
    one = {"x": ArraySpec((), np.dtype(np.float32), lambda: np.float32(0))}
    with pytest.raises(CheckpointError, match="would have a header of"):
        write_safetensors_file(tmp_path / "x.safetensors", one, {"long": "x" * 2**22})
    monkeypatch.setattr(safetensors_files, "MAX_TENSORS", 0)
    with pytest.raises(CheckpointError, match="and 1 tensors"):
        write_safetensors_file(tmp_path / "x.safetensors", one, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["n" * 5000, "a\0b"])
def test_names_that_no_file_can_have_are_one_line(name):
    with pytest.raises(CheckpointError) as error:
        open_weights(name)
    assert len(str(error.value).splitlines()) == 1
