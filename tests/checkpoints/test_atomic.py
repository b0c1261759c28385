"""Files appear whole or not at all."""

import numpy as np
import pytest

from skipdit_jax.checkpoints.arrays import ArraySpec
from skipdit_jax.checkpoints.atomic import replacing_file
from skipdit_jax.checkpoints.errors import CheckpointError
from skipdit_jax.checkpoints.safetensors_files import write_safetensors_file
from skipdit_jax.checkpoints.torch_write import write_torch_file


def test_the_file_appears_when_it_is_whole(tmp_path):
    target = tmp_path / "x"
    target.write_bytes(b"old")
    with replacing_file(target) as file:
        file.write(b"new")
        file.flush()
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


WRITERS = {"torch": write_torch_file, "safetensors": lambda p, t: write_safetensors_file(p, t, {})}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_failure_half_way_leaves_the_old_file_and_nothing_else(tmp_path, kind):
    def fail():
        raise RuntimeError("no more numbers")

    good = ArraySpec((2,), np.dtype(np.float32), lambda: np.ones(2, np.float32))
    bad = ArraySpec((2,), np.dtype(np.float32), fail)
    target = tmp_path / "x"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="no more numbers"):
        WRITERS[kind](target, {"good": good, "bad": bad})
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_value_of_another_type_is_no_file(tmp_path):
    spec = ArraySpec((2,), np.dtype(np.float32), lambda: np.ones(2, np.float64))
    with pytest.raises(ValueError, match="float64, wanted float32"):
        write_torch_file(tmp_path / "x.pt", {"x": spec})
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_told(tmp_path):
    target = tmp_path / "none" / "x.pt"
    with pytest.raises(CheckpointError, match="No such file or directory") as caught:
        write_torch_file(target, {})
    assert str(caught.value).startswith(str(target))


def test_a_folder_that_is_a_file_is_told(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CheckpointError, match="Not a directory"):
        write_torch_file(tmp_path / "file" / "x.pt", {})


def test_a_target_that_is_a_folder_is_told(tmp_path):
    (tmp_path / "x.pt").mkdir()
    with pytest.raises(CheckpointError, match="directory"):
        write_torch_file(tmp_path / "x.pt", {})
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


def test_an_error_is_short_whatever_a_file_claims():
    names = ", ".join(f"blocks.{i}.weight" for i in range(10**6))
    text = str(CheckpointError(f"file.pt: does not fit: 1000000 missing: {names}\x1b[2J; the end"))
    assert len(text) <= 2**15
    assert text.startswith("file.pt: does not fit: 1000000 missing: blocks.0.weight, blocks.1")
    assert text.endswith("blocks.999999.weight\\x1b[2J; the end")
    assert len(str(CheckpointError("\x1b" * 10**6))) <= 2**15
