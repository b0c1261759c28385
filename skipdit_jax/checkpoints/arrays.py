"""A tensor that is made only when its turn to be written comes."""

import dataclasses
import math
from collections.abc import Callable, Iterator

import numpy as np

PIECE_BYTES = 2**24  # of one write: much less than the tensors that decide how much memory it takes


@dataclasses.dataclass(frozen=True)
class ArraySpec:
    """A tensor to write.

    Attributes:
      shape: of the tensor.
      dtype: of its elements in the file.
      value: returns it when its turn comes; any strides will do.
      cast: whether `value` may have another type, to be rounded to `dtype`.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    value: Callable[[], np.ndarray]
    cast: bool = False

    def pieces(self) -> Iterator[memoryview]:
        """Yields the bytes in row-major order.

        A value that is transposed or rounded is copied slab by slab: beside it, no second tensor is
        ever in memory.

        Raises:
          ValueError: the value is no such array.
        """
        array = self.value().reshape(self.shape)
        if array.dtype != self.dtype and not self.cast:
            raise ValueError(f"ArraySpec: value has type {array.dtype}, wanted {self.dtype}")
        array = np.atleast_1d(array)
        rows = max(1, len(array) * PIECE_BYTES // max(self.nbytes, 1))
        for start in range(0, len(array), rows):
            slab = array[start : start + rows].astype(self.dtype, order="C", copy=False)
            yield slab.reshape(-1).view(np.uint8).data

    @property
    def nbytes(self) -> int:
        """Size of the tensor in the file."""
        return math.prod(self.shape) * self.dtype.itemsize
