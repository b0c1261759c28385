"""A tree of pictures, one folder for each class, as torchvision's ImageFolder reads it."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from skipdit_jax.data.fingerprints import fingerprint
from skipdit_jax.data.images import ENDINGS, read_image
from skipdit_jax.data.listing import Contents, by_ending, contents, ending, tell_passed_over, walk
from skipdit_jax.data.sources import ANY_CLASS, Example

Places = Iterable[tuple[str, Contents]]
"""Names of folders relative to the root, with what stands in them."""


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
        top = _top(self._root)
        self.classes = tuple(top.folders)
        _check_classes(self._root, top, num_classes)
        trees: dict[str, Places] = {name: walk(self._root, name) for name in self.classes}
        found = (_pictures(self._root, *tree) for tree in (trees or {"": [("", top)]}).items())
        files, others = zip(*found, strict=True)
        # Bytes: numpy's text takes four bytes for each letter, 128 MB for ImageNet.
        self._files = np.array([os.fsencode(name) for names in files for name in names])
        self._labels = np.repeat(np.arange(len(files), dtype=np.int32), [len(f) for f in files])
        self.fingerprint = fingerprint(self._root, self._files.tolist())
        loose = top.files if self.classes else []
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
    return tuple(_top(Path(root)).folders)


def _top(root: Path) -> Contents:
    if not root.is_dir():
        raise ValueError(f"data.path: no folder {str(root)!r}, wanted one folder for each class")
    return contents(root)


def _check_classes(root: Path, top: Contents, num_classes: int) -> None:
    classes = top.folders
    if len(classes) > num_classes:
        raise ValueError(
            f"data.path: {root} has {len(classes)} class folders, "
            f"wanted labels 0..{num_classes - 1} (num_classes): set model.num_classes to "
            f"{len(classes)}"
        )
    pictures = not classes and any(ending(name) in ENDINGS for name in top.files)
    if not classes and (not pictures or num_classes not in (1, ANY_CLASS)):
        raise ValueError(f"data.path: {root} has no class folders, wanted one for each class")


def _pictures(root: Path, folder: str, places: Places) -> tuple[list[str], list[str]]:
    """Sorted names of the pictures in the places of a class, and of what is none, all of root."""
    pictures: list[str] = []
    others: list[str] = []
    for place, found in places:
        for name in found.files:
            (pictures if ending(name) in ENDINGS else others).append(os.path.join(place, name))
        others += found.others
    if not pictures:
        beside = f" but {by_ending(others)}" if others else ""
        raise ValueError(
            f"data.path: class folder {root / folder} has no images{beside}, wanted at least one"
        )
    return sorted(pictures, key=os.fsencode), others
