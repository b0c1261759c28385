"""A tensor that is made only when its turn to be written comes."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class ArraySpec:
    """Shape and type of a tensor to write, and the call that returns it when its turn comes."""

    shape: tuple[int, ...]
    dtype: np.dtype
    value: Callable[[], np.ndarray]

    def data(self) -> memoryview:
        """Returns the bytes in row-major order; raises ValueError if the value is no such array."""
        array = np.ascontiguousarray(self.value()).reshape(self.shape)
        if array.dtype != self.dtype:
            raise ValueError(f"ArraySpec: value has type {array.dtype}, wanted {self.dtype}")
        return array.reshape(-1).view(np.uint8).data

    @property
    def nbytes(self) -> int:
        """Size of the tensor in the file."""
        return math.prod(self.shape) * self.dtype.itemsize
