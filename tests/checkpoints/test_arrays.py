"""Tensors are written slab by slab: the slabs together are the tensor."""

import ml_dtypes
import numpy as np
import pytest

from skipdit_jax.checkpoints import arrays
from skipdit_jax.checkpoints.arrays import ArraySpec

NUMBERS = np.random.default_rng(0).standard_normal((4, 5, 6)).astype(np.float32)
VALUES = {
    "as it is": NUMBERS,
    "transposed": NUMBERS.T,
    "axes moved": np.moveaxis(NUMBERS, 0, 1),
    "every second": NUMBERS[:, ::2],
    "one row": NUMBERS[:1],
    "a number": NUMBERS[0, 0, 0],
    "nothing": NUMBERS[:0],
    "no columns": NUMBERS[:, :0],
}


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("limit", [1, 100, 2**24])
@pytest.mark.parametrize("case", VALUES)
def test_slabs_make_the_tensor(monkeypatch, case, limit, dtype):
    monkeypatch.setattr(arrays, "PIECE_BYTES", limit)
    value = np.asarray(VALUES[case])
    spec = ArraySpec(value.shape, np.dtype(dtype), lambda: value, cast=True)
    pieces = [bytes(piece) for piece in spec.pieces()]
    assert b"".join(pieces) == value.astype(dtype).tobytes()
    assert sum(map(len, pieces)) == spec.nbytes
    rows = spec.nbytes // len(value) if value.ndim and len(value) else spec.nbytes
    assert all(len(piece) <= max(limit, rows) for piece in pieces)
