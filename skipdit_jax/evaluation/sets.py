"""Sets of pictures and clips to evaluate: folders, .npz files, prepared sets, arrays.

All give uint8 [n,H,W,C] or [n,F,H,W,C] in a fixed order, from any sample on, so that work that was
stopped goes on where it stood.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image

from skipdit_jax.data.fingerprints import DIGITS, fingerprint
from skipdit_jax.data.images import DECODING_ERRORS, ENDINGS, read_image
from skipdit_jax.data.listing import by_ending, ending, files_below
from skipdit_jax.data.sources import unreadable
from skipdit_jax.evaluation.packed_pictures import picture_batches, picture_shape

COLOURS = 3
PACKED = "samples.npz"
"""All samples of a folder of sample.py in one."""


@runtime_checkable
class SampleSet(Protocol):
    """Samples to evaluate.

    Attributes:
      name: as messages call it.
      shape: of a sample, (H, W, C) or (F, H, W, C).
      fingerprint: tells it from other sets, cheaply.
    """

    name: str
    shape: tuple[int, ...]
    fingerprint: str

    def __len__(self) -> int: ...

    def chunks(self, start: int, size: int) -> Iterator[np.ndarray]:
        """Yields uint8 [n,...], n = `size` but for the last, beginning with sample `start`."""
        ...


class SetToCome(SampleSet):
    """Samples that are not drawn yet: how many and how large, no more."""

    def __init__(self, name: str, count: int, shape: tuple[int, ...]):
        """Takes what is known."""
        self.name, self.shape, self.fingerprint, self._count = name, shape, "", count

    def __len__(self) -> int:
        return self._count

    def chunks(self, start: int, size: int) -> Iterator[np.ndarray]:
        """Raises ValueError."""
        raise ValueError(f"{self.name}: found no samples yet")


class HeldSet(SampleSet):
    """Samples in memory."""

    def __init__(self, name: str, samples: np.ndarray):
        """Takes uint8 [N,H,W,C] or [N,F,H,W,C].

        Raises:
          ValueError: another type, or no such shape.
        """
        if samples.dtype != np.uint8 or samples.ndim not in (4, 5):
            raise ValueError(
                f"{name}: found {samples.dtype} {samples.shape}, wanted uint8 [N,H,W,C] or "
                "[N,F,H,W,C]"
            )
        self.name, self.shape, self._samples = name, samples.shape[1:], samples
        known = str(samples.shape).encode() + samples.tobytes()
        self.fingerprint = hashlib.sha256(known).hexdigest()[:DIGITS]

    def __len__(self) -> int:
        return len(self._samples)

    def chunks(self, start: int, size: int) -> Iterator[np.ndarray]:
        """See `SampleSet`."""
        for at in range(start, len(self), size):
            yield self._samples[at : at + size]


class PackedSet(SampleSet):
    """Samples of an .npz file, "arr_0" as ADM writes them, or as sample.py packs clips."""

    def __init__(self, path: str | os.PathLike[str]):
        """Looks at the header of the samples.

        Raises:
          ValueError: no such file, or no samples in it.
        """
        self._path = Path(path)
        self.name = str(path)
        self._count, *shape = picture_shape(path)
        self.shape = tuple(shape)
        facts = (self._count, self._path.stat().st_mtime_ns)
        self.fingerprint = fingerprint(self._path.parent, [os.fsencode(self._path.name)], facts)

    def __len__(self) -> int:
        return self._count

    def chunks(self, start: int, size: int) -> Iterator[np.ndarray]:
        """See `SampleSet`."""
        return picture_batches(self._path, size, start=start)


class FolderSet(SampleSet):
    """Pictures of a folder and all below it, in the order of their names, in colour."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        side: int | None = None,
        names: Sequence[str] | None = None,
    ):
        """Lists the pictures.

        Args:
          root: the folder.
          side: pixels that all are scaled and cut to as ADM does; None takes them as they are.
          names: of `listing.files_below`, where they are known already.

        Raises:
          ValueError: no pictures there.
          OSError: the folder cannot be read.
        """
        self._root = Path(root)
        self.name = str(root)
        names = files_below(self._root) if names is None else names
        self._files = sorted((n for n in names if ending(n) in ENDINGS), key=os.fsencode)
        if not self._files:
            beside = f" but {by_ending(names)}" if names else ""
            raise ValueError(f"{root}: found no pictures{beside}, wanted at least one")
        height, width = (side, side) if side else self._size_of(self._files[0])
        self.shape, self._scaled = (height, width, COLOURS), side is not None
        # Of every file: pictures without compression are all of one size, whatever they show.
        stats = [(self._root / name).stat() for name in self._files]
        listed = [os.fsencode(name) for name in self._files]
        facts = [side, *((stat.st_size, stat.st_mtime_ns) for stat in stats)]
        self.fingerprint = fingerprint(self._root, listed, facts)

    def __len__(self) -> int:
        return len(self._files)

    def chunks(self, start: int, size: int) -> Iterator[np.ndarray]:
        """See `SampleSet`.

        Raises:
          DataError: (a ValueError) a picture that cannot be read, or is of another size.
        """
        for at in range(start, len(self), size):
            yield np.stack([self._read(name) for name in self._files[at : at + size]])

    def _read(self, name: str) -> np.ndarray:
        if not self._scaled and (found := self._size_of(name)) != self.shape[:2]:
            raise ValueError(
                f"{self._root / name}: found {found[1]}x{found[0]} pixels, wanted "
                f"{self.shape[1]}x{self.shape[0]} as {self._files[0]} has (--image-size cuts all "
                "to one size)"
            )
        path = self._root / name
        return read_image(path, name=str(path), size=self.shape[:2], channels=COLOURS)

    def _size_of(self, name: str) -> tuple[int, int]:
        """(H, W), of the header alone."""
        path = self._root / name
        try:
            with Image.open(path) as image:
                return image.height, image.width
        except (*DECODING_ERRORS, Image.DecompressionBombError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise unreadable(str(path), error, reason) from error


class FirstOf(SampleSet):
    """The first samples of a set."""

    def __init__(self, whole: SampleSet, count: int):
        """Takes so many.

        Raises:
          ValueError: the set has fewer.
        """
        if count > len(whole):
            raise ValueError(f"{whole.name}: found {len(whole)} samples, wanted {count}")
        self._whole, self._count = whole, count
        self.name, self.shape = whole.name, whole.shape
        self.fingerprint = f"{whole.fingerprint}-{count}"

    def __len__(self) -> int:
        return self._count

    def chunks(self, start: int, size: int) -> Iterator[np.ndarray]:
        """See `SampleSet`."""
        left = self._count - start
        for chunk in self._whole.chunks(start, size):
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                return
