"""Pictures of .npz files, batch by batch."""

import zipfile
from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

from skipdit_jax.evaluation.archives import Path, header_of, numbers_in, opened, reading

PICTURES = "arr_0"
"""Pictures in files of ADM and of whoever writes samples as it does: uint8 [N,H,W,3]."""
LARGEST_SIDE = 4096  # pixels
LARGEST_BATCH = 2**31  # bytes


def picture_batches(path: Path, batch: int, name: str = PICTURES) -> Iterator[np.ndarray]:
    """Pictures of an .npz file, uint8 [n,H,W,3] with n = `batch` but for the last.

    Holds one batch at a time, compressed or not.

    Raises:
      ValueError: the file cannot be read, has no such pictures, or is damaged where it was read.
    """
    if batch < 1:
        raise ValueError(f"picture_batches: found batch {batch}, wanted 1 or more")
    with reading(path) as archive, opened(archive, name) as member:
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
    with reading(path) as archive, opened(archive, name) as member:
        return _picture_shape(member, name)


def _picture_shape(member: zipfile.ZipExtFile, name: str) -> tuple[int, int, int, int]:
    shape, fortran, dtype = header_of(member, name)
    if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or fortran or not numbers_in(shape):
        raise ValueError(f"{name}: found {dtype} {shape}, wanted pictures uint8 (N, H, W, 3)")
    if max(shape[1:3]) > LARGEST_SIDE:
        raise ValueError(f"{name}: found shape {shape}, wanted sides of {LARGEST_SIDE} at most")
    count, height, width, channels = shape
    return count, height, width, channels


def _next_pictures(
    member: zipfile.ZipExtFile, shape: tuple[int, ...], name: str
) -> UInt8[np.ndarray, "N H W 3"]:
    wanted = numbers_in(shape)
    if wanted > LARGEST_BATCH:
        raise ValueError(f"{name}: found batches of {wanted:,} bytes, wanted {LARGEST_BATCH:,}")
    data = member.read(wanted)
    if len(data) != wanted:
        raise ValueError(f"{name}: ends within a picture, wanted more bytes")
    return np.frombuffer(data, np.uint8).reshape(shape)
