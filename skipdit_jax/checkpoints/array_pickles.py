"""Reads pickles of nested dicts of numpy arrays, as small JAX packages ship their weights.

They are read by the machine of `pickles.py`: nothing in them is executed.
"""

import dataclasses
import math
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from skipdit_jax.checkpoints.errors import CheckpointError, shown
from skipdit_jax.checkpoints.handles import TensorHandle, contiguous_strides
from skipdit_jax.checkpoints.limits import MAX_TENSORS
from skipdit_jax.checkpoints.pickles import STATE, Instructions, Machine
from skipdit_jax.checkpoints.records import Record

MAX_BYTES = 2**27  # VGG16 with LPIPS has 59 MB
FRAME_BYTES = 9  # of the instruction FRAME with its length
LEAD_BYTES = 2 + FRAME_BYTES + 1  # PROTO, FRAME, and what the pickle builds
MAX_DEPTH = 8  # of dicts in each other; the packages have 4
ARRAY = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
DTYPES = ("f2", "f4", "f8", "i4", "i8")
ORDERS = ("<", "|")
STEP = "/"


@dataclasses.dataclass(frozen=True)
class HeldTensor(TensorHandle):
    """A tensor whose bytes are in memory.

    Attributes:
      data: its bytes.
    """

    data: bytes = b""

    def read(self) -> np.ndarray:
        """Returns the tensor; it cannot be written to."""
        steps = [stride * self.dtype.itemsize for stride in self.strides]
        return np.ndarray(self.shape, self.dtype, buffer=self.data, strides=steps)


def is_array_pickle(lead: bytes) -> bool:
    """Whether a file that begins so is a pickle of a dict, and none of torch.

    Args:
      lead: its first `LEAD_BYTES` bytes.
    """
    if lead[:1] != pickle.PROTO:
        return False
    at = 2 + (FRAME_BYTES if lead[2:3] == pickle.FRAME else 0)
    return lead[at : at + 1] == pickle.EMPTY_DICT


def read_array_pickle(path: Path) -> dict[str, TensorHandle]:
    """Returns the arrays by the keys that lead to them, joined by "/".

    Raises:
      CheckpointError: too large, damaged, or something else than dicts of arrays.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise CheckpointError(f"a pickle of {size} bytes, wanted at most {MAX_BYTES}")
    content = Machine(Instructions(path.read_bytes())).run()
    found = dict(_arrays(path, content, ()))
    if not found or len(found) > MAX_TENSORS:
        raise CheckpointError(f"a pickle of {len(found)} arrays, wanted 1 to {MAX_TENSORS}")
    return found


def _arrays(path: Path, node: Any, keys: tuple[str, ...]) -> Iterator[tuple[str, TensorHandle]]:
    place = shown(STEP.join(keys))
    if isinstance(node, Record) and node.name in ARRAY:
        yield STEP.join(keys), _held(path, place, node.fields.get(STATE))
        return
    if not isinstance(node, dict) or len(keys) == MAX_DEPTH:
        kind = shown(node.name) if isinstance(node, Record) else type(node).__name__
        raise CheckpointError(f"a pickle with a {kind} at {place!r}, wanted dicts of arrays")
    for key, value in node.items():
        if not isinstance(key, str):
            raise CheckpointError(f"a pickle with a key of type {type(key).__name__} in {place!r}")
        yield from _arrays(path, value, (*keys, key))


def _held(path: Path, place: str, state: Any) -> HeldTensor:
    """The array of what numpy's BUILD is given: (version, shape, type, columns first, bytes)."""
    if not isinstance(state, tuple) or len(state) != 5:
        raise CheckpointError(f"{place}: found an array without contents")
    _, shape, kind, columns_first, data = state
    dtype = _dtype(place, kind)
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise CheckpointError(f"{place}: found an array of no shape")
    if not isinstance(data, bytes) or len(data) != math.prod(shape) * dtype.itemsize:
        raise CheckpointError(f"{place}: found an array of {shape} whose bytes are not as many")
    strides = contiguous_strides(shape[::-1])[::-1] if columns_first else contiguous_strides(shape)
    return HeldTensor(path, 0, dtype, shape, strides, data)


def _dtype(place: str, kind: Any) -> np.dtype:
    """The element type of a record of numpy.dtype: ("f4", ...), and then (version, "<", ...)."""
    fields = kind.fields if isinstance(kind, Record) and kind.name == "numpy.dtype" else {}
    name, order = fields.get("arguments"), fields.get(STATE)
    if not isinstance(name, tuple) or not isinstance(order, tuple) or name[:1] == ():
        raise CheckpointError(f"{place}: found an array of no type")
    if name[0] not in DTYPES or order[1:2] not in [(o,) for o in ORDERS]:
        raise CheckpointError(f"{place}: found an array of type {shown(repr(name[0]))}")
    return np.dtype(f"<{name[0]}")
