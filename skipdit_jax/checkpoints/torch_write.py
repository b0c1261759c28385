"""Writes .pt files that `torch.load(weights_only=True)` reads, without torch.

The layout is that of `torch_files.py`; the pickle is written instruction by instruction.
"""

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from skipdit_jax.checkpoints.arrays import ArraySpec
from skipdit_jax.checkpoints.atomic import replacing_file
from skipdit_jax.checkpoints.handles import contiguous_strides
from skipdit_jax.checkpoints.torch_files import LOCAL_HEADER_BYTES

ROOT = "archive"  # folder inside the zip; torch takes any
VERSION = b"3\n"  # of torch's zip layout
BYTE_ORDER = b"little"
ALIGNMENT = 64  # bytes: torch aligns storages so, for torch.load(mmap=True)
PADDING = b"FB"  # tag of the extra field that torch pads with
FIELD_BYTES = 4  # tag and length of an extra field
PICKLE_PROTOCOL = b"\x02"  # torch.save's
STORAGES = {
    np.dtype(np.float32): "FloatStorage",
    np.dtype(np.float16): "HalfStorage",
    np.dtype(ml_dtypes.bfloat16): "BFloat16Storage",
    np.dtype(np.float64): "DoubleStorage",
    np.dtype(np.int64): "LongStorage",
    np.dtype(np.int32): "IntStorage",
    np.dtype(np.uint8): "ByteStorage",
    np.dtype(np.bool_): "BoolStorage",
}


def write_torch_file(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Writes {name: tensor}, one tensor at a time in memory; the file appears whole.

    Args:
      path: of the file.
      content: `ArraySpec` for each tensor; training checkpoints have dicts and lists of them and of
        plain values (texts, numbers, None).

    Raises:
      CheckpointError: it cannot be written there.
      TypeError: content of another kind.
    """
    specs: list[ArraySpec] = []
    code = pickle.PROTO + PICKLE_PROTOCOL + _value(content, specs) + pickle.STOP
    with replacing_file(path) as file:
        _write(file, code, specs)


def _write(file: io.BufferedIOBase, code: bytes, specs: list[ArraySpec]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _member(archive, file.tell(), "data.pkl", len(code), [code])
        _member(archive, file.tell(), "byteorder", len(BYTE_ORDER), [BYTE_ORDER])
        for number, spec in enumerate(specs):
            _member(archive, file.tell(), f"data/{number}", spec.nbytes, spec.pieces())
        _member(archive, file.tell(), "version", len(VERSION), [VERSION])


def _member(
    archive: zipfile.ZipFile,
    start: int,
    name: str,
    size: int,
    pieces: Iterable[bytes | memoryview],
) -> None:
    info = zipfile.ZipInfo(f"{ROOT}/{name}")  # its default date keeps files reproducible
    info.file_size = size
    header = LOCAL_HEADER_BYTES + len(info.filename) + FIELD_BYTES
    padding = -(start + header) % ALIGNMENT
    info.extra = PADDING + struct.pack("<H", padding) + b"Z" * padding
    with archive.open(info, "w") as member:
        for piece in pieces:
            member.write(piece)


def _value(value: Any, specs: list[ArraySpec]) -> bytes:
    """Instructions for a value; the tensors in it are appended to `specs`."""
    if isinstance(value, Mapping):
        pairs = (_value(key, specs) + _value(of, specs) for key, of in value.items())
        return pickle.EMPTY_DICT + b"".join(pair + pickle.SETITEM for pair in pairs)
    if isinstance(value, list):
        return pickle.EMPTY_LIST + b"".join(_value(v, specs) + pickle.APPEND for v in value)
    if isinstance(value, ArraySpec):
        specs.append(value)
        return _tensor(len(specs) - 1, value)
    if value is None or isinstance(value, bool):
        return {None: pickle.NONE, True: pickle.NEWTRUE, False: pickle.NEWFALSE}[value]
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return pickle.BINFLOAT + struct.pack(">d", value)
    raise TypeError(f"write_torch_file: found {type(value).__name__}, wanted tensors, dicts, ...")


def _tensor(number: int, spec: ArraySpec) -> bytes:
    count = _integer(spec.nbytes // spec.dtype.itemsize)
    storage = _tuple(
        _text("storage"),
        _name("torch", STORAGES[spec.dtype]),
        _text(str(number)),
        _text("cpu"),
        count,
    )
    no_hooks = _name("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
    arguments = _tuple(
        storage + pickle.BINPERSID,
        _integer(0),
        _tuple(*map(_integer, spec.shape)),
        _tuple(*map(_integer, contiguous_strides(spec.shape))),
        pickle.NEWFALSE,
        no_hooks,
    )
    return _name("torch._utils", "_rebuild_tensor_v2") + arguments + pickle.REDUCE


def _name(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _text(text: str) -> bytes:
    data = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def _integer(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return pickle.LONG1 + bytes([len(data)]) + data


def _tuple(*items: bytes) -> bytes:
    return pickle.MARK + b"".join(items) + pickle.TUPLE
