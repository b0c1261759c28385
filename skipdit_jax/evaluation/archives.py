"""Arrays of .npz files from elsewhere: read as far as wanted, with nothing in them executed.

A file may claim any size and unpack to a thousand times its own: the header of an array is looked
at before any of it is read.
"""

import contextlib
import lzma
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from typing import cast

import numpy as np

from skipdit_jax.config import printable, shown

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
    with opened(archive, name) as member:
        shape, _, dtype = header_of(member, name)
    wanted = dtype == np.uint8 if bytes_ else dtype.kind == "f"
    if not wanted:
        raise ValueError(f"{name}: found {dtype}, wanted {'uint8' if bytes_ else 'floats'}")
    if numbers_in(shape) > largest:
        raise ValueError(f"{name}: found shape {shape}, wanted {largest:,} numbers at most")
    with opened(archive, name) as member:
        array = np.lib.format.read_array(member, allow_pickle=False)
    return array if bytes_ else array.astype(np.float64)


def opened(archive: zipfile.ZipFile, name: str) -> zipfile.ZipExtFile:
    """The file of an array inside an archive; ValueError if there is none."""
    if name not in names_of(archive):
        found = ", ".join(sorted(names_of(archive))) or "none"
        raise ValueError(f"no array {name}, it has {shown(found)}")
    return cast(zipfile.ZipExtFile, archive.open(name + _ENDING))


def header_of(member: zipfile.ZipExtFile, name: str) -> Header:
    """What the array that begins here claims to be.

    Raises:
      ValueError: no array of numbers.
    """
    version = np.lib.format.read_magic(member)
    if version not in _HEADERS:
        raise ValueError(f"{name}: found .npy version {version}, wanted 1.0 or 2.0")
    shape, fortran, dtype = _HEADERS[version](member)
    if dtype.hasobject:
        raise ValueError(f"{name}: found Python objects, wanted numbers")
    if any(side < 0 for side in shape):
        raise ValueError(f"{name}: found shape {shape}, wanted sizes of 0 or more")
    return shape, fortran, dtype


def numbers_in(shape: tuple[int, ...]) -> int:
    """How many numbers an array has; Python's integers do not overflow."""
    count = 1
    for side in shape:
        count *= side
    return count
