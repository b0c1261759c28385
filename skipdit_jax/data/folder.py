"""A tree of pictures, one folder for each class, as torchvision's ImageFolder reads it."""

import os
from pathlib import Path

import numpy as np

from skipdit_jax.data.fingerprints import fingerprint
from skipdit_jax.data.images import ENDINGS, read_image
from skipdit_jax.data.listing import by_ending, contents, ending, tell_passed_over, walk
from skipdit_jax.data.sources import ANY_CLASS, Example


class FolderSource:
    """Examples {"image" uint8 [H,W,C], "label"} of `root/CLASS/**/NAME.jpg`.

    Labels count the class folders in the order of their names. Without class folders the pictures
    of the root are the examples, all of label 0, for models without labels. Only the names are held
    in memory. Files that are passed over are counted in the log.

    Attributes:
      classes: names of the class folders.

    Raises:
      ValueError: no such folder, no pictures, a class without pictures, more classes than
        `num_classes`, or none for a model that wants some.
      OSError: a folder cannot be read.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        size: tuple[int, int],
        channels: int,
        num_classes: int,
        orientation: str = "upright",
    ):
        self._root, self._size, self._channels = Path(root), size, channels
        self._orientation = orientation
        self.classes = class_folders(self._root)
        _check_classes(self._root, self.classes, num_classes)
        files, others = zip(*(_pictures(self._root, c) for c in self.classes or [""]), strict=True)
        # Bytes: numpy's text takes four bytes for each letter, 128 MB for ImageNet.
        self._files = np.array([os.fsencode(name) for names in files for name in names])
        self._labels = np.repeat(np.arange(len(files), dtype=np.int32), [len(f) for f in files])
        self.fingerprint = fingerprint(self._root, self._files.tolist())
        loose = contents(self._root).files if self.classes else []
        no_pictures = [name for names in others for name in names]
        tell_passed_over(self._root, no_pictures, "that are no pictures known here")
        tell_passed_over(self._root, loose, "beside the class folders")

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> Example:
        path = self._root / os.fsdecode(self._files[index])
        image = read_image(
            path,
            name=str(path),
            size=self._size,
            channels=self._channels,
            orientation=self._orientation,
        )
        return {"image": image, "label": self._labels[index]}


def class_folders(root: str | Path) -> tuple[str, ...]:
    """The classes of a folder of class folders, in the order of their labels.

    Raises:
      ValueError: no such folder.
    """
    if not Path(root).is_dir():
        raise ValueError(f"data.path: no folder {str(root)!r}, wanted one folder for each class")
    return tuple(contents(Path(root)).folders)


def _check_classes(root: Path, classes: tuple[str, ...], num_classes: int) -> None:
    if len(classes) > num_classes:
        raise ValueError(
            f"data.path: {root} has {len(classes)} class folders, "
            f"wanted labels 0..{num_classes - 1} (num_classes): set model.num_classes to "
            f"{len(classes)}"
        )
    pictures = not classes and any(ending(name) in ENDINGS for name in contents(root).files)
    if not classes and (not pictures or num_classes not in (1, ANY_CLASS)):
        raise ValueError(f"data.path: {root} has no class folders, wanted one for each class")


def _pictures(root: Path, folder: str) -> tuple[list[str], list[str]]:
    """Sorted names of the pictures below a class folder, and of what is none, relative to root."""
    pictures: list[str] = []
    others: list[str] = []
    for place, found in walk(root, folder) if folder else [("", contents(root))]:
        for name in found.files:
            (pictures if ending(name) in ENDINGS else others).append(os.path.join(place, name))
        others += found.others
    if not pictures:
        beside = f" but {by_ending(others)}" if others else ""
        raise ValueError(
            f"data.path: class folder {root / folder} has no images{beside}, wanted at least one"
        )
    return sorted(pictures, key=os.fsencode), others
