"""Reads and writes .safetensors: a length (uint64), a JSON header, then the tensors back to back.

The `safetensors` library checks a file when it is opened; the numbers are read by our own handles
and written tensor by tensor, so that neither way ever needs two copies of all weights.
"""

import dataclasses
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors

from skipdit_jax.checkpoints.arrays import ArraySpec
from skipdit_jax.checkpoints.atomic import replacing_file
from skipdit_jax.checkpoints.errors import CheckpointError, parsing, shown
from skipdit_jax.checkpoints.handles import TensorHandle, contiguous_strides
from skipdit_jax.checkpoints.limits import MAX_HEADER_BYTES, MAX_TENSORS
from skipdit_jax.checkpoints.records import MAX_RANK
from skipdit_jax.checkpoints.state_dicts import MAX_NAME

LENGTH_BYTES = 8
ALIGNMENT = 8  # of the first tensor, as the library's own files have it
METADATA = "__metadata__"
DTYPES = {
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "C64": np.dtype(np.complex64),
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclasses.dataclass(frozen=True)
class SafetensorsFile:
    """What a file holds: a handle per tensor, and its text metadata."""

    path: Path
    handles: dict[str, TensorHandle]
    metadata: dict[str, str]


def read_safetensors_file(path: str | os.PathLike[str]) -> SafetensorsFile:
    """Opens a .safetensors file; reads its header, none of its numbers.

    Raises:
      CheckpointError: unreadable, truncated, damaged, or of an element type unknown here.
    """
    path = Path(path)
    with parsing(path):
        with path.open("rb") as file:
            lead = file.read(LENGTH_BYTES)
        length = int.from_bytes(lead, "little")
        if MAX_HEADER_BYTES < length <= path.stat().st_size:
            raise CheckpointError(
                f"has a header of {length} bytes, wanted at most {MAX_HEADER_BYTES}"
            )
        try:
            with safetensors.safe_open(path, framework="numpy"):
                pass
        except safetensors.SafetensorError as error:
            raise CheckpointError(f"not a whole .safetensors file ({shown(str(error))})") from error
        with path.open("rb") as file:
            file.seek(LENGTH_BYTES)
            header = json.loads(file.read(length))
        metadata = header.pop(METADATA, {})
        if len(header) > MAX_TENSORS:
            raise CheckpointError(f"has {len(header)} tensors, wanted at most {MAX_TENSORS}")
        handles = {
            name: _handle(path, LENGTH_BYTES + length, name, entry)
            for name, entry in header.items()
        }
        return SafetensorsFile(path, handles, metadata)


def write_safetensors_file(
    path: str | os.PathLike[str], tensors: Mapping[str, ArraySpec], metadata: Mapping[str, str]
) -> None:
    """Writes tensors in the given order, one at a time in memory; the file appears whole.

    Raises:
      CheckpointError: it cannot be written there, or is more than `read_safetensors_file` takes.
    """
    header: dict[str, object] = {METADATA: dict(metadata)}
    at = 0
    for name, spec in tensors.items():
        header[name] = {
            "dtype": _NAMES[spec.dtype],
            "shape": list(spec.shape),
            "data_offsets": [at, at + spec.nbytes],
        }
        at += spec.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    if len(text) > MAX_HEADER_BYTES or len(tensors) > MAX_TENSORS:
        raise CheckpointError(
            f"{os.fspath(path)}: would have a header of {len(text)} bytes and {len(tensors)} "
            f"tensors, and none is read with more than {MAX_HEADER_BYTES} and {MAX_TENSORS}"
        )
    with replacing_file(path) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for spec in tensors.values():
            file.writelines(spec.pieces())


def _handle(path: Path, start: int, name: str, entry: dict) -> TensorHandle:
    if entry["dtype"] not in DTYPES:
        raise CheckpointError(f"{shown(name)} has the unknown type {shown(entry['dtype'])}")
    shape = tuple(entry["shape"])
    if len(name) > MAX_NAME or len(shape) > MAX_RANK:
        raise CheckpointError(
            f"{shown(name)} has {len(shape)} axes and a name of {len(name)} characters, wanted at "
            f"most {MAX_RANK} and {MAX_NAME}"
        )
    dtype = DTYPES[entry["dtype"]]
    return TensorHandle(
        path, start + entry["data_offsets"][0], dtype, shape, contiguous_strides(shape)
    )
