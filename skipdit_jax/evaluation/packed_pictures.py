"""Pictures and clips of .npz files, batch by batch."""

import zipfile
from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

from skipdit_jax.evaluation.archives import Path, header_of, numbers_in, opened, reading

PICTURES = "arr_0"
"""Pictures in files of ADM and of whoever writes samples as it does: uint8 [N,H,W,3]; or clips."""
AXES = (4, 5)  # of pictures, of clips
CHANNELS = (1, 3)
LARGEST_SIDE = 4096  # pixels
LARGEST_BATCH = 2**31  # bytes


def picture_batches(
    path: Path, batch: int, name: str = PICTURES, start: int = 0
) -> Iterator[np.ndarray]:
    """Pictures of an .npz file, uint8 [n,H,W,C] with n = `batch` but for the last, or clips.

    Holds one batch at a time, compressed or not.

    Args:
      path: of the file.
      batch: pictures or clips at a time.
      name: of the array.
      start: the first of them to be given; the file is read up to there.

    Raises:
      ValueError: the file cannot be read, has no such pictures, or is damaged where it was read.
    """
    if batch < 1:
        raise ValueError(f"picture_batches: found batch {batch}, wanted 1 or more")
    with reading(path) as archive, opened(archive, name) as member:
        count, *size = _picture_shape(member, name)
        for at in range(0, start, batch):
            _next_pictures(member, (min(batch, start - at, count - at), *size), name)
        for at in range(start, count, batch):
            yield _next_pictures(member, (min(batch, count - at), *size), name)
        if member.read(1):
            raise ValueError(f"{name}: found more bytes than {count} pictures have")


def picture_shape(path: Path, name: str = PICTURES) -> tuple[int, ...]:
    """[N,H,W,C] of the pictures of an .npz file, [N,F,H,W,C] of clips, without reading them.

    Raises:
      ValueError: the file cannot be read or has no such pictures.
    """
    with reading(path) as archive, opened(archive, name) as member:
        return _picture_shape(member, name)


def _picture_shape(member: zipfile.ZipExtFile, name: str) -> tuple[int, ...]:
    shape, fortran, dtype = header_of(member, name)
    known = dtype == np.uint8 and len(shape) in AXES and shape[-1] in CHANNELS
    if not known or fortran or not numbers_in(shape):
        raise ValueError(
            f"{name}: found {dtype} {shape}, wanted pictures uint8 (N, H, W, 1 or 3), or clips"
        )
    if max(shape[1:]) > LARGEST_SIDE:
        raise ValueError(f"{name}: found shape {shape}, wanted sides of {LARGEST_SIDE} at most")
    return shape


def _next_pictures(
    member: zipfile.ZipExtFile, shape: tuple[int, ...], name: str
) -> UInt8[np.ndarray, "N *rest"]:
    wanted = numbers_in(shape)
    if wanted > LARGEST_BATCH:
        raise ValueError(f"{name}: found batches of {wanted:,} bytes, wanted {LARGEST_BATCH:,}")
    data = member.read(wanted)
    if len(data) != wanted:
        raise ValueError(f"{name}: ends within a picture, wanted more bytes")
    return np.frombuffer(data, np.uint8).reshape(shape)
