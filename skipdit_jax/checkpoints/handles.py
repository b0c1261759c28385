"""A tensor that still lies in its file: shape and place are known, the bytes are read on demand."""

import dataclasses
import math
import mmap
from pathlib import Path
from typing import NamedTuple

import numpy as np

from skipdit_jax.checkpoints.errors import CheckpointError, naming
from skipdit_jax.checkpoints.records import StorageRef, TensorRecord


class Span(NamedTuple):
    """A run of bytes in a file: [start, start + size)."""

    start: int
    size: int


@dataclasses.dataclass(frozen=True)
class TensorHandle:
    """One tensor of a checkpoint file.

    Attributes:
      path: the file.
      start: first byte of element 0.
      dtype: of the elements, little-endian.
      shape: of the tensor.
      strides: of each axis, in elements.
    """

    path: Path
    start: int
    dtype: np.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self) -> np.ndarray:
        """Returns the tensor; only its own stretch of the file is read, into memory of its own.

        Reading beats mapping here: touched pages of a map count as memory of the process.

        Raises:
          CheckpointError: the file has become shorter or cannot be read any more.
        """
        if not math.prod(self.shape):
            return np.empty(self.shape, self.dtype)
        last = sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))
        wanted = (last + 1) * self.dtype.itemsize
        data = scratch((wanted,), np.dtype(np.uint8))
        with naming(self.path), self.path.open("rb") as file:
            file.seek(self.start)
            found = file.readinto(data.data)
            if found != wanted:
                raise CheckpointError(f"ends {wanted - found} bytes before its tensors do")
        steps = [stride * self.dtype.itemsize for stride in self.strides]
        return np.ndarray(self.shape, self.dtype, buffer=data.data, strides=steps)


def scratch(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Returns an array for passing use, whose memory goes back to the system when it is dropped.

    malloc keeps what is freed and splits it: importing DiT-XL through it needs 0.2 GB more.
    """
    size = math.prod(shape) * dtype.itemsize
    return np.ndarray(shape, dtype, buffer=mmap.mmap(-1, max(size, 1)))


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the strides, in elements, of a row-major array."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def place(record: TensorRecord, path: Path, spans: dict[str, Span]) -> TensorHandle:
    """Returns the handle of a record, given where in the file each storage lies."""
    dtype = record.storage.dtype
    start = spans[record.storage.key].start + record.offset * dtype.itemsize
    return TensorHandle(path, start, dtype, record.shape, record.strides)


def check_storage(ref: StorageRef, spans: dict[str, Span]) -> None:
    """Raises CheckpointError unless the file holds exactly the bytes that a storage claims."""
    wanted = ref.numel * ref.dtype.itemsize
    if ref.key not in spans:
        raise CheckpointError(f"storage {ref.key!r} of its tensors is not in the file")
    if spans[ref.key].size != wanted:
        raise CheckpointError(
            f"storage {ref.key!r} holds {spans[ref.key].size} bytes, its tensors need {wanted}"
        )
