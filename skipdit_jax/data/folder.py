"""A tree of pictures, one folder for each class, as torchvision's ImageFolder reads it."""

import os
from pathlib import Path

import numpy as np

from skipdit_jax.data.fingerprints import fingerprint
from skipdit_jax.data.images import read_image
from skipdit_jax.data.sources import Example

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})
"""File names that count as pictures: those of torchvision's ImageFolder."""


class FolderSource:
    """Examples {"image" uint8 [H,W,C], "label"} of `root/CLASS/**/NAME.jpg`.

    Labels count the class folders in the order of their names. Only the names are held in memory.

    Raises:
      ValueError: no such folder, no class folders, a class without pictures, or more classes than
        `num_classes`.
    """

    def __init__(self, root: str | Path, *, size: tuple[int, int], channels: int, num_classes: int):
        self._root, self._size, self._channels = Path(root), size, channels
        if not self._root.is_dir():
            raise ValueError(
                f"data.path: no folder {str(root)!r}, wanted one folder for each class"
            )
        self.classes = sorted(
            entry.name
            for entry in self._root.iterdir()
            if entry.is_dir() and not entry.name.startswith(".")
        )
        if not self.classes:
            raise ValueError(f"data.path: {root} has no class folders, wanted one for each class")
        if len(self.classes) > num_classes:
            raise ValueError(
                f"data.path: {root} has {len(self.classes)} class folders, "
                f"wanted labels 0..{num_classes - 1} (num_classes)"
            )
        files = [_pictures(self._root / name) for name in self.classes]
        # Bytes: numpy's text takes four bytes for each letter, 128 MB for ImageNet.
        self._files = np.array([name for names in files for name in names])
        self._labels = np.repeat(np.arange(len(files), dtype=np.int32), [len(f) for f in files])
        classes = [os.fsencode(name) + b"/" for name in self.classes]
        names = [classes[y] + name for y, name in zip(self._labels, self._files, strict=True)]
        self.fingerprint = fingerprint(self._root, names)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> Example:
        label = self._labels[index]
        path = self._root / self.classes[label] / os.fsdecode(self._files[index])
        image = read_image(path, name=str(path), size=self._size, channels=self._channels)
        return {"image": image, "label": label}


def _pictures(folder: Path) -> list[bytes]:
    """Sorted names of the pictures below a class folder, relative to it."""
    names = sorted(
        os.fsencode(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file()
    )
    if not names:
        raise ValueError(f"data.path: class folder {folder} has no images, wanted at least one")
    return names
