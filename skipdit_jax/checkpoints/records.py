"""What a torch pickle may build: inert records, and the short list of names that build them.

Nothing here calls, imports or looks up anything that the file names: a name of the file is a key
of `ALLOWED`, or the file is refused.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from skipdit_jax.checkpoints.errors import CheckpointError, shown

MAX_INDEX = 2**63  # torch keeps sizes, strides and offsets as int64
MAX_RANK = 32  # of numpy 1.x; weights have at most 5 axes


@dataclasses.dataclass(frozen=True)
class StorageRef:
    """One run of numbers in the file, shared by the tensors that view it.

    Attributes:
      key: its name within the file.
      dtype: type of its elements, little-endian.
      numel: how many elements it has.
    """

    key: str
    dtype: np.dtype
    numel: int


@dataclasses.dataclass(frozen=True)
class TensorRecord:
    """A view of a storage, checked to lie within it; offset and strides count elements."""

    storage: StorageRef
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclasses.dataclass
class Record:
    """An object of the file kept as data: its class by name, its attributes, no behaviour."""

    name: str
    fields: dict[Any, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Symbol:
    """An allowed name.

    Attributes:
      name: the dotted name in the file.
      build: our function for a call of it, on already inert arguments; None if it is not callable.
      dtype: element type, of a storage class.
    """

    name: str
    build: Callable[..., Any] | None = None
    dtype: np.dtype | None = None


def rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> TensorRecord:
    """Returns the record of a view; further arguments (gradients, hooks, metadata) are dropped.

    Raises:
      CheckpointError: arguments of wrong kinds, or a view that leaves its storage, overlaps itself
        into more elements than the storage has, or has an absurd rank. Nothing is allocated.
    """
    if not isinstance(storage, StorageRef):
        raise CheckpointError(f"a tensor is built on {type(storage).__name__}, no storage")
    numbers = (offset, *_indices(shape), *_indices(strides))
    if len(shape) != len(strides) or len(shape) > MAX_RANK:
        raise CheckpointError(f"a tensor has {len(shape)} sizes and {len(strides)} strides")
    if not all(type(number) is int and 0 <= number < MAX_INDEX for number in numbers):
        raise CheckpointError("a tensor has a size, stride or offset that is negative or no index")
    elements = math.prod(shape)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if elements and (last >= storage.numel or elements > storage.numel):
        raise CheckpointError(
            f"a tensor of shape {tuple(shape)}, strides {tuple(strides)}, offset {offset} does not "
            f"fit its storage {shown(storage.key)!r} of {storage.numel} elements"
        )
    return TensorRecord(storage, offset, tuple(shape), tuple(strides))


def rebuild_storage(identity: Any) -> StorageRef:
    """Returns the storage that a persistent id ("storage", class, key, device, numel) names.

    Raises:
      CheckpointError: anything else, or a view of a storage (written by torch before 0.4).
    """
    if not isinstance(identity, tuple) or len(identity) not in (5, 6):
        raise CheckpointError("a persistent id is no storage")
    tag, kind, key, _, numel, *view = identity
    typed = isinstance(kind, Symbol) and kind.dtype is not None
    if tag != "storage" or not typed or not isinstance(key, str) or any(view):
        raise CheckpointError("a persistent id is no storage of a known element type")
    if type(numel) is not int or not 0 <= numel < MAX_INDEX:
        raise CheckpointError(f"storage {shown(key)!r} has a size that is negative or no index")
    return StorageRef(key, kind.dtype, numel)


def _rebuild_parameter(tensor: Any, *_: Any) -> TensorRecord:
    if not isinstance(tensor, TensorRecord):
        raise CheckpointError(f"a parameter is built on {type(tensor).__name__}, no tensor")
    return tensor


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    if not all(isinstance(p, list | tuple) and len(p) == 2 for p in _indices(pairs)):
        raise CheckpointError("an OrderedDict is built on something else than pairs")
    return {plain_key(key): value for key, value in pairs}


def _size(sizes: Any = ()) -> tuple[Any, ...]:
    return tuple(_indices(sizes))


def _indices(values: Any) -> Sequence[Any]:
    if not isinstance(values, list | tuple):
        raise CheckpointError(f"found {type(values).__name__} where a tuple belongs")
    return values


def plain_key(key: Any) -> Any:
    """Returns a dict key if it is a string, number or None: hashing deep tuples can take forever.

    Raises:
      CheckpointError: any other key.
    """
    if not isinstance(key, str | int | float | None):
        raise CheckpointError(f"a dict has a key of type {type(key).__name__}")
    return key


_STORAGES = {
    "Float": np.float32,
    "Half": np.float16,
    "BFloat16": ml_dtypes.bfloat16,
    "Double": np.float64,
    "Long": np.int64,
    "Int": np.int32,
    "Short": np.int16,
    "Char": np.int8,
    "Byte": np.uint8,
    "Bool": np.bool_,
}
_DTYPES = (
    "float32 float16 bfloat16 float64 int64 int32 int16 int8 uint8 bool float half double long int"
)
_SYMBOLS = (
    Symbol("torch._utils._rebuild_tensor", rebuild_tensor),
    Symbol("torch._utils._rebuild_tensor_v2", rebuild_tensor),
    Symbol("torch._utils._rebuild_parameter", _rebuild_parameter),
    Symbol("collections.OrderedDict", _ordered_dict),
    Symbol("argparse.Namespace", lambda: Record("argparse.Namespace")),
    Symbol("torch.Size", _size),
    Symbol("torch.device", lambda *where: Record("torch.device", {"where": where})),
    *(Symbol(f"torch.{name}") for name in _DTYPES.split()),
    *(Symbol(f"torch.{kind}Storage", dtype=np.dtype(t)) for kind, t in _STORAGES.items()),
)
ALLOWED = {symbol.name: symbol for symbol in _SYMBOLS}
"""Every name a checkpoint may mention; `argparse.Namespace` becomes an inert record."""
