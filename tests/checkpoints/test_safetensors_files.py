"""Our .safetensors files against the library that defines them."""

import json
import struct

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from skipdit_jax.checkpoints.arrays import ArraySpec
from skipdit_jax.checkpoints.errors import CheckpointError
from skipdit_jax.checkpoints.safetensors_files import (
    DTYPES,
    read_safetensors_file,
    write_safetensors_file,
)

ARRAYS = {
    "kernel": np.arange(12, dtype=np.float32).reshape(3, 4) / 7,
    "a/b/c": np.arange(5, dtype=np.int64) - 2**40,
    "half": np.float16([[1.5], [-0.0]]),
    "brain": np.arange(6).astype(ml_dtypes.bfloat16).reshape(2, 3),
    "flags": np.array([True, False]),
    "number": np.full((), 2.5),
    "empty": np.empty((0, 3), np.uint8),
}


def specs(arrays):
    return {k: ArraySpec(a.shape, a.dtype, lambda a=a: a) for k, a in arrays.items()}


def assert_same(got, want):
    assert got.keys() == want.keys()
    for key, array in want.items():
        assert got[key].dtype == array.dtype, key
        assert got[key].shape == array.shape, key
        assert got[key].tobytes() == array.tobytes(), key


def read(path):
    return {key: handle.read() for key, handle in read_safetensors_file(path).handles.items()}


def test_the_library_reads_what_we_write(tmp_path):
    path = tmp_path / "ours.safetensors"
    write_safetensors_file(path, specs(ARRAYS), {"format": "ä test"})
    assert_same(safetensors.numpy.load_file(path), ARRAYS)
    with safetensors.safe_open(path, framework="numpy") as file:
        assert file.metadata() == {"format": "ä test"}


def test_we_read_what_the_library_writes(tmp_path):
    path = tmp_path / "theirs.safetensors"
    safetensors.numpy.save_file(ARRAYS, path, {"who": "library"})
    assert_same(read(path), ARRAYS)
    assert read_safetensors_file(path).metadata == {"who": "library"}
    safetensors.numpy.save_file(ARRAYS, path)
    assert read_safetensors_file(path).metadata == {}


@pytest.mark.parametrize("code", DTYPES)
def test_every_element_type_survives(tmp_path, code):
    array = np.arange(6).astype(DTYPES[code]).reshape(3, 2)
    write_safetensors_file(tmp_path / "x.safetensors", specs({"x": array}), {})
    [(name, found)] = safetensors.deserialize((tmp_path / "x.safetensors").read_bytes())
    assert (name, found["dtype"], found["shape"]) == ("x", code, [3, 2])
    assert bytes(found["data"]) == array.tobytes()
    assert_same(read(tmp_path / "x.safetensors"), {"x": array})


def test_arrays_in_column_order_are_written_in_row_order(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    write_safetensors_file(tmp_path / "x.safetensors", specs({"x": array}), {})
    np.testing.assert_array_equal(read(tmp_path / "x.safetensors")["x"], array)


def framed(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(shape, offsets, dtype="F32"):
    return {"x": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


FORGED = {
    "empty": b"",
    "only a length": struct.pack("<Q", 2**62),
    "no json": framed(b"{nonsense"),
    "a list": framed([1]),
    "beyond the end": framed(entry([4], [0, 16]), b"\0" * 8),
    "surplus bytes": framed(entry([1], [0, 4]), b"\0" * 8),
    "huge shape": framed(entry([2**40], [0, 8]), b"\0" * 8),
    "negative offsets": framed(entry([1], [-4, 0]), b"\0" * 4),
    "backward offsets": framed(entry([1], [4, 0]), b"\0" * 4),
    "unknown type": framed(entry([1], [0, 4], "Q9"), b"\0" * 4),
    "type unknown here": framed(entry([4], [0, 4], "F8_E8M0"), b"\0" * 4),
    "deep json": framed(b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}"),
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_files_are_refused_in_one_line(tmp_path, case):
    path = tmp_path / "forged.safetensors"
    path.write_bytes(FORGED[case])
    with pytest.raises(CheckpointError) as caught:
        read_safetensors_file(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message.splitlines()) == 1
    assert "TypeCheckError" not in message


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / "whole.safetensors"
    write_safetensors_file(path, specs(ARRAYS), {})
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError):
            read_safetensors_file(path)
