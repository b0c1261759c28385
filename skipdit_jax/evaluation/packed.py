"""Arrays of .npz files from elsewhere: read as far as wanted, with nothing in them executed.

A file may claim any size and unpack to a thousand times its own: the header of an array is looked
at before any of it is read, and pictures come batch by batch.
"""

import contextlib
import lzma
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO

import numpy as np
from jaxtyping import UInt8

from skipdit_jax.config import shown

PICTURES = "arr_0"
"""Pictures in files of ADM and of whoever writes samples as it does: uint8 [N,H,W,3]."""
LARGEST_SIDE = 4096  # pixels
LARGEST_BATCH = 2**31  # bytes
_ENDING = ".npy"
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_MALFORMED = (
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    EOFError,
    OverflowError,
    MemoryError,
    RecursionError,
    RuntimeError,  # encrypted; NotImplementedError, of a compression that nobody knows, is one
    SyntaxError,
    tokenize.TokenError,
    struct.error,
    lzma.LZMAError,
    zlib.error,
    zipfile.BadZipFile,
)
"""What numpy and the standard library raise on bytes that are not what they claim to be."""

Path = str | os.PathLike[str]
Header = tuple[tuple[int, ...], bool, np.dtype]  # shape, order of Fortran, type


@contextlib.contextmanager
def reading(path: Path) -> Iterator[zipfile.ZipFile]:
    """An open .npz file; whatever goes wrong inside becomes a ValueError "PATH: reason", one line.

    Raises:
      ValueError: the file is missing, unreadable, no archive, or its bytes are not what they claim.
    """
    place = os.fspath(path)
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            yield archive
    except OSError as error:
        raise ValueError(f"{place}: {error.strerror or error}") from error
    except _MALFORMED as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"{place}: {shown(printable(reason), 200)}") from error


def printable(text: str) -> str:
    """Foreign text in one line, without characters that would steer a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def names_of(archive: zipfile.ZipFile) -> set[str]:
    """Names of the arrays of an .npz file."""
    names = archive.namelist()
    return {name.removesuffix(_ENDING) for name in names if name.endswith(_ENDING)}


def small_array(
    archive: zipfile.ZipFile, name: str, largest: int, bytes_: bool = False
) -> np.ndarray:
    """An array of floats, as float64, or of bytes, as uint8.

    Args:
      archive: see `reading`.
      name: of the array.
      largest: numbers that it may hold.
      bytes_: whether it holds bytes.

    Raises:
      ValueError: it is missing, larger, or holds something else.
    """
    with _opened(archive, name) as member:
        shape, _, dtype = _header(member, name)
    wanted = dtype == np.uint8 if bytes_ else dtype.kind == "f"
    if not wanted:
        raise ValueError(f"{name}: found {dtype}, wanted {'uint8' if bytes_ else 'floats'}")
    if _numbers(shape) > largest:
        raise ValueError(f"{name}: found shape {shape}, wanted {largest:,} numbers at most")
    with _opened(archive, name) as member:
        array = np.lib.format.read_array(member, allow_pickle=False)
    return array if bytes_ else array.astype(np.float64)


def picture_batches(path: Path, batch: int, name: str = PICTURES) -> Iterator[np.ndarray]:
    """Pictures of an .npz file, uint8 [n,H,W,3] with n = `batch` but for the last.

    Holds one batch at a time, compressed or not.

    Raises:
      ValueError: the file cannot be read, has no such pictures, or is damaged where it was read.
    """
    if batch < 1:
        raise ValueError(f"picture_batches: found batch {batch}, wanted 1 or more")
    with reading(path) as archive, _opened(archive, name) as member:
        count, *size = _picture_shape(member, name)
        for start in range(0, count, batch):
            wanted = (min(batch, count - start), *size)
            yield _next_pictures(member, wanted, name)
        if member.read(1):
            raise ValueError(f"{name}: found more bytes than {count} pictures have")


def picture_shape(path: Path, name: str = PICTURES) -> tuple[int, int, int, int]:
    """[N,H,W,3] of the pictures of an .npz file, without reading them.

    Raises:
      ValueError: the file cannot be read or has no such pictures.
    """
    with reading(path) as archive, _opened(archive, name) as member:
        return _picture_shape(member, name)


def _picture_shape(member: IO[bytes], name: str) -> tuple[int, int, int, int]:
    shape, fortran, dtype = _header(member, name)
    if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or fortran or not _numbers(shape):
        raise ValueError(f"{name}: found {dtype} {shape}, wanted pictures uint8 (N, H, W, 3)")
    if max(shape[1:3]) > LARGEST_SIDE:
        raise ValueError(f"{name}: found shape {shape}, wanted sides of {LARGEST_SIDE} at most")
    count, height, width, channels = shape
    return count, height, width, channels


def _next_pictures(
    member: IO[bytes], shape: tuple[int, ...], name: str
) -> UInt8[np.ndarray, "N H W 3"]:
    wanted = _numbers(shape)
    if wanted > LARGEST_BATCH:
        raise ValueError(f"{name}: found batches of {wanted:,} bytes, wanted {LARGEST_BATCH:,}")
    data = member.read(wanted)
    if len(data) != wanted:
        raise ValueError(f"{name}: ends within a picture, wanted more bytes")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _opened(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    if name not in names_of(archive):
        found = ", ".join(sorted(names_of(archive))) or "none"
        raise ValueError(f"no array {name}, it has {shown(found)}")
    return archive.open(name + _ENDING)


def _header(member: IO[bytes], name: str) -> Header:
    version = np.lib.format.read_magic(member)
    if version not in _HEADERS:
        raise ValueError(f"{name}: found .npy version {version}, wanted 1.0 or 2.0")
    shape, fortran, dtype = _HEADERS[version](member)
    if dtype.hasobject:
        raise ValueError(f"{name}: found Python objects, wanted numbers")
    if any(side < 0 for side in shape):
        raise ValueError(f"{name}: found shape {shape}, wanted sizes of 0 or more")
    return shape, fortran, dtype


def _numbers(shape: tuple[int, ...]) -> int:
    """How many numbers an array has; Python's integers do not overflow."""
    count = 1
    for side in shape:
        count *= side
    return count
