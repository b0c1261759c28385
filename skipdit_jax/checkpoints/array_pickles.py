"""Reads pickles of nested dicts of numpy arrays, as small JAX packages ship their weights.

They are read by the machine of `pickles.py`: nothing in them is executed.
"""

import dataclasses
import itertools
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
from skipdit_jax.checkpoints.records import MAX_INDEX, MAX_RANK, Record
from skipdit_jax.checkpoints.state_dicts import MAX_NAME

MAX_BYTES = 2**27  # VGG16 with LPIPS has 59 MB
FRAME_BYTES = 9  # of the instruction FRAME with its length
LEAD_BYTES = 2 + FRAME_BYTES + 1  # PROTO, FRAME, and what the pickle builds
MAX_DEPTH = 8  # of dicts in each other; the packages have 4
REBUILT = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
BUFFERED = ("numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer")
"""What numpy 1 and 2 call the two makers of arrays, up to protocol 4 and from protocol 5 on."""

DTYPES = ("<f2", "<f4", "<f8", "<i4", "<i8")
ROWS_FIRST = {"C": True, "F": False}
STEP = "/"


@dataclasses.dataclass(frozen=True)
class HeldTensor(TensorHandle):
    """A tensor whose bytes are in memory, where `start` counts.

    Attributes:
      data: its bytes.
    """

    data: bytes = b""

    def read(self) -> np.ndarray:
        """Returns the tensor; it cannot be written to."""
        steps = [stride * self.dtype.itemsize for stride in self.strides]
        return np.ndarray(self.shape, self.dtype, self.data, self.start, steps)


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
        raise CheckpointError(f"found a pickle of {size} bytes, wanted at most {MAX_BYTES}")
    content = Machine(Instructions(path.read_bytes())).run()
    named = list(itertools.islice(_arrays(path, content, ""), MAX_TENSORS + 1))
    found = dict(named)
    if len(named) > MAX_TENSORS or len(found) < len(named):
        raise CheckpointError(f"found equal names, or more than {MAX_TENSORS} arrays")
    return found


def _arrays(path: Path, node: Any, name: str, depth: int = 0) -> Iterator[tuple[str, TensorHandle]]:
    """Every array below a node; a dict may be met at many places, but never without an array."""
    place = shown(name)
    if isinstance(node, Record) and node.name in (*REBUILT, *BUFFERED):
        yield name, _held(path, place, *_parts(place, node))
        return
    if not isinstance(node, dict) or not node or depth == MAX_DEPTH:
        kind = node.name if isinstance(node, Record) else type(node).__name__
        raise CheckpointError(
            f"found a {shown(kind)} at {place!r}, wanted arrays in at most {MAX_DEPTH} dicts, "
            "none of them empty"
        )
    for key, value in node.items():
        if not isinstance(key, str) or len(name) + len(key) > MAX_NAME:
            kind = f"{len(key)} characters" if isinstance(key, str) else type(key).__name__
            raise CheckpointError(f"found a key of {kind} in {place!r}, wanted a name")
        yield from _arrays(path, value, f"{name}{STEP}{key}" if depth else key, depth + 1)


def _parts(place: str, node: Record) -> tuple[Any, Any, Any, Any]:
    """(bytes, type, shape, whether rows come first) of an array."""
    if node.name in BUFFERED:
        match node.fields.get("arguments"):
            case (data, kind, shape, "C" | "F" as order):
                return data, kind, shape, ROWS_FIRST[order]
    else:
        match node.fields.get(STATE):
            case (_, shape, kind, bool() as columns_first, data):
                return data, kind, shape, not columns_first
    raise CheckpointError(f"{place}: found an array without contents, or in an order of its own")


def _held(path: Path, place: str, data: Any, kind: Any, shape: Any, rows_first: bool) -> HeldTensor:
    dtype = _dtype(place, kind)
    if not isinstance(shape, tuple) or len(shape) > MAX_RANK:
        raise CheckpointError(f"{place}: found an array of no shape")
    if not all(type(n) is int and 0 <= n < MAX_INDEX for n in shape):
        raise CheckpointError(f"{place}: found an array of a negative or impossible shape")
    wanted = math.prod(shape) * dtype.itemsize
    if not isinstance(data, bytes) or len(data) != wanted:
        found = f"{len(data)} bytes" if isinstance(data, bytes) else f"a {type(data).__name__}"
        raise CheckpointError(f"{place}: found {found}, wanted {wanted} bytes of an array {shape}")
    strides = contiguous_strides(shape) if rows_first else contiguous_strides(shape[::-1])[::-1]
    return HeldTensor(path, 0, dtype, shape, strides, data)


def _dtype(place: str, kind: Any) -> np.dtype:
    """The element type of a record of numpy.dtype: ("f4", ...), and then (version, "<", ...)."""
    if isinstance(kind, Record) and kind.name == "numpy.dtype":
        match kind.fields.get("arguments"), kind.fields.get(STATE):
            case (str() as name, *_), (_, str() as order, *_):
                if order + name in DTYPES:
                    return np.dtype(order + name)
                known = ", ".join(DTYPES)
                found = shown(order + name)
                raise CheckpointError(f"{place}: found an array of type {found!r}, wanted {known}")
    raise CheckpointError(f"{place}: found an array of no type")
