"""Files written for torch, read back by torch itself and by our own reader."""

import zipfile

import ml_dtypes
import numpy as np
import pytest

from skipdit_jax.checkpoints.arrays import ArraySpec
from skipdit_jax.checkpoints.torch_files import read_torch_file
from skipdit_jax.checkpoints.torch_write import ALIGNMENT, STORAGES, write_torch_file

SHAPES = [(2, 3), (6,), (1, 6, 1), (3, 2)]
ARRAYS = {
    f"blocks.{i}.{dtype.name}": (np.arange(6) % 2 * 3).astype(dtype).reshape(SHAPES[i % 4])
    for i, dtype in enumerate(STORAGES)
}
ARRAYS["number"] = np.full((), 7, np.float32)
ARRAYS["empty"] = np.empty((0, 4), np.int64)
ARRAYS["ä"] = np.ones(300)


def write(path, arrays):
    specs = {k: ArraySpec(a.shape, a.dtype, lambda a=a: a) for k, a in arrays.items()}
    write_torch_file(path, specs)
    return path


def test_our_reader_finds_the_same_bits(tmp_path):
    file = read_torch_file(write(tmp_path / "x.pt", ARRAYS))
    assert list(file.content) == list(ARRAYS)
    for key, array in ARRAYS.items():
        got = file.handle(file.content[key]).read()
        assert (got.dtype, got.shape, got.tobytes()) == (array.dtype, array.shape, array.tobytes())


@pytest.mark.parametrize("mapped", [False, True])
def test_torch_finds_the_same_bits(tmp_path, mapped):
    torch = pytest.importorskip("torch", reason="torch is not installed: nothing to read with")
    path = write(tmp_path / "x.pt", ARRAYS)
    state = torch.load(path, weights_only=True, mmap=mapped)
    assert list(state) == list(ARRAYS)
    for key, array in ARRAYS.items():
        assert tuple(state[key].shape) == array.shape
        assert str(state[key].dtype) == f"torch.{array.dtype.name}"
        assert state[key].reshape(-1).view(torch.uint8).numpy().tobytes() == array.tobytes()


def test_storages_are_aligned_and_the_zip_is_sound(tmp_path):
    path = write(tmp_path / "x.pt", ARRAYS)
    starts = [span.start for span in read_torch_file(path).spans.values()]
    assert len(starts) == len(ARRAYS)
    assert all(start % ALIGNMENT == 0 for start in starts)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


def test_the_same_weights_give_the_same_file(tmp_path):
    first = write(tmp_path / "1.pt", ARRAYS).read_bytes()
    assert write(tmp_path / "2.pt", ARRAYS).read_bytes() == first


def test_bfloat16_is_among_the_types():
    assert np.dtype(ml_dtypes.bfloat16) in STORAGES


NESTED = {
    "model": {"w": np.ones((2, 3), np.float32)},
    "opt": {
        "state": {0: {"step": np.float32(7), "exp_avg": np.zeros(3, np.float32)}},
        "param_groups": [{"lr": 1e-4, "params": [0, 1], "foreach": None, "fused": False}],
    },
    "args": {"name": "ä", "seed": -3, "large": 2**40, "amsgrad": True},
}


def specs_of(value):
    """The same with an ArraySpec for each array."""
    if isinstance(value, dict):
        return {key: specs_of(part) for key, part in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        return ArraySpec(array.shape, array.dtype, lambda: array)
    return value


def test_torch_reads_nested_content_as_it_was(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed: nothing to read with")
    write_torch_file(tmp_path / "x.pt", specs_of(NESTED))
    read = torch.load(tmp_path / "x.pt", weights_only=True)
    assert read["model"]["w"].tolist() == [[1.0] * 3] * 2
    (state,) = read["opt"]["state"].values()
    assert (state["step"].item(), state["exp_avg"].tolist()) == (7.0, [0.0] * 3)
    assert read["opt"]["param_groups"] == NESTED["opt"]["param_groups"]
    assert read["args"] == NESTED["args"]


def test_content_that_is_no_data_writes_nothing(tmp_path):
    with pytest.raises(TypeError, match="found object, wanted tensors"):
        write_torch_file(tmp_path / "x.pt", {"x": object()})
    assert not list(tmp_path.iterdir())
