"""What a torch pickle may build: inert records, and the short list of names that build them.

Nothing here calls, imports or looks up anything that the file names: a name of the file is a key
of `ALLOWED`, a placeholder (`placeholders.py`), or the file is refused.
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
MAX_REPEATED = 2**24  # elements of a tensor that repeats its storage (torch.Tensor.expand): the
# largest matrix of DiT-XL has 8 million


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

    @property
    def numel(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)


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


@dataclasses.dataclass(frozen=True, eq=False)
class Key:
    """A key of a dict that is neither text nor number; equal to itself alone, so hashing is cheap.

    Attributes:
      value: what the file has there.
    """

    value: Any


def rebuild_tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, *more: Any
) -> TensorRecord | Record:
    """Returns the record of a view; of further arguments, gradients and hooks are dropped.

    A view whose numbers are the negative or conjugate of those in the file is no plain tensor: it
    becomes a `Record`.

    Raises:
      CheckpointError: arguments of wrong kinds, or a view that leaves its storage, repeats it into
        more than `MAX_REPEATED` elements, or has an absurd rank. Nothing is allocated.
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
    view = f"a tensor of shape {tuple(shape)}, strides {tuple(strides)}, offset {offset}"
    if elements and last >= storage.numel:
        raise CheckpointError(
            f"{view} does not fit its storage {shown(storage.key)!r} of {storage.numel} elements"
        )
    if elements > max(storage.numel, MAX_REPEATED):
        raise CheckpointError(
            f"{view} repeats its storage of {storage.numel} elements, wanted at most {MAX_REPEATED}"
        )
    if len(more) > 2 and isinstance(more[2], dict) and any(more[2].values()):
        return Record("torch.Tensor", {"metadata": more[2]})
    return TensorRecord(storage, offset, tuple(shape), tuple(strides))


def _rebuild_typed(
    storage: Any, offset: Any, shape: Any, strides: Any, *more: Any
) -> TensorRecord | Record:
    """A view of bytes: how torch saves the element types that have no storage class."""
    grad, hooks, kind, *metadata = more
    dtype = _ELEMENTS.get(kind.name) if isinstance(kind, Symbol) else None
    if dtype is None or not isinstance(storage, StorageRef):
        return Record("torch.Tensor", {"dtype": kind})
    numel = storage.numel * storage.dtype.itemsize // dtype.itemsize
    typed = StorageRef(storage.key, dtype, numel)
    return rebuild_tensor(typed, offset, shape, strides, grad, hooks, *metadata)


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


def _rebuild_parameter(tensor: Any, *_: Any) -> TensorRecord | Record:
    if not isinstance(tensor, TensorRecord | Record):
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
    """Returns a dict key if it is a string, number or None, and others as a `Key`.

    Hashing deep tuples can take forever.

    Raises:
      CheckpointError: a key that no dict can have.
    """
    if isinstance(key, list | dict):
        raise CheckpointError(f"a dict has a key of type {type(key).__name__}")
    return key if isinstance(key, str | int | float | None) else Key(key)


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
    "ComplexFloat": np.complex64,
    "ComplexDouble": np.complex128,
    "QInt8": np.int8,  # of quantised tensors, which are never read
    "QUInt8": np.uint8,
    "QInt32": np.int32,
    "QUInt4x2": np.uint8,
    "QUInt2x4": np.uint8,
}
_BYTES = Symbol("torch.storage.UntypedStorage", dtype=np.dtype(np.uint8))
_DTYPES = (
    "float32 float16 bfloat16 float64 int64 int32 int16 int8 uint8 bool uint16 uint32 uint64 "
    "complex64 complex128 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu"
)
_ELEMENTS = {
    f"torch.{name}": np.dtype(getattr(ml_dtypes, name, None) or name) for name in _DTYPES.split()
}
"""Element types that arrays can have."""

_OTHER_DTYPES = (
    "float half double long int complex32 qint8 qint32 quint8 quint4x2 quint2x4 bits8 bits16 "
    "bits1x8 bits2x4 bits4x2 float4_e2m1fn_x2 "
    "int1 int2 int3 int4 int5 int6 int7 uint1 uint2 uint3 uint4 uint5 uint6 uint7"
)
_SYMBOLS = (
    Symbol("torch._utils._rebuild_tensor", rebuild_tensor),
    Symbol("torch._utils._rebuild_tensor_v2", rebuild_tensor),
    Symbol("torch._utils._rebuild_tensor_v3", _rebuild_typed),
    Symbol("torch._utils._rebuild_parameter", _rebuild_parameter),
    Symbol("collections.OrderedDict", _ordered_dict),
    Symbol("argparse.Namespace", lambda: Record("argparse.Namespace")),
    Symbol("torch.Size", _size),
    Symbol("torch.device", lambda *where: Record("torch.device", {"where": where})),
    *(Symbol(f"torch.{name}") for name in (*_DTYPES.split(), *_OTHER_DTYPES.split())),
    _BYTES,
    *(Symbol(f"torch.{kind}Storage", dtype=np.dtype(t)) for kind, t in _STORAGES.items()),
)
ALLOWED = {symbol.name: symbol for symbol in _SYMBOLS}
"""What weights are made of, and what training scripts of DiT save beside them."""
