"""Videos as files or folders of frames, in a tree of classes, in one folder, or in a list.

A video is a file that FFmpeg knows (read with PyAV) or a folder that holds pictures, its frames in
the order of their names. A folder of data is one of

* root/CLASS/**/VIDEO: folders at the top that are no videos themselves are the classes;
* root/VIDEO: no classes, for models without labels.

A list is a text file of lines `VIDEO LABEL`, or `VIDEO` without classes, relative to its folder.
"""

import os
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from skipdit_jax.data.clips import Choose, Window
from skipdit_jax.data.fingerprints import fingerprint
from skipdit_jax.data.images import ENDINGS, read_image, to_pixels
from skipdit_jax.data.listing import Contents, contents, ending, read_text, tell_passed_over, walk
from skipdit_jax.data.sources import ANY_CLASS, Example, check_labels, unreadable
from skipdit_jax.data.video_frames import Pixels, read_frames
from skipdit_jax.optional import load

SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv"}
    | {".3gp", ".ogv", ".gif"}
)
"""File names that count as videos in a folder; a list may name others."""
PICTURES = ENDINGS - SUFFIXES
"""File names that count as frames."""

_LABEL = re.compile(r"(?P<name>.*\S)\s+(?P<label>[+-]?[0-9]+)")


class VideoSource:
    """Clips {"image" uint8 [F,H,W,C], "label"} of videos, in the order of their names or the list.

    Labels count the class folders in the order of their names; without classes they are 0. Only the
    names are held in memory, and only the frames of a clip are read.

    Attributes:
      classes: names of the class folders; none of a list.

    Raises:
      ValueError: nothing there, no videos, an empty folder, files where they mean nothing, labels
        outside `num_classes`, no classes for a model that wants some, or PyAV is missing.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        size: tuple[int, int],
        channels: int,
        num_classes: int,
        orientation: str = "upright",
    ):
        path = Path(path)
        self._size, self._channels, self._orientation = size, channels, orientation
        self._root = path.parent if path.is_file() else path
        found = _read_list(path) if path.is_file() else _scan(path)
        if found.labels is None and num_classes not in (1, ANY_CLASS):
            raise ValueError(
                f"data.path: {path} has no classes, wanted one of {num_classes} for each video"
            )
        self.classes = tuple(found.classes)
        # Bytes: numpy's text takes four bytes for each letter.
        self._names = np.array([os.fsencode(name) for name in found.names])
        labels = found.labels or [0] * len(found.names)
        check_labels(np.array(labels), num_classes, str(path))
        self._labels = np.array(labels, np.int32)
        self.fingerprint = fingerprint(self._root, self._names.tolist(), labels)
        file = next((name for name in found.names if _is_video(name)), None)
        if file is not None:
            load("av", str(self._root / file))

    def __len__(self) -> int:
        return len(self._labels)

    def draw(self, index: int, window: Window, rng: np.random.Generator) -> Example:
        """See `ClipSource`."""
        path = self._root / os.fsdecode(self._names[index])
        choose = partial(window.choose, at=rng.random(), name=str(path))
        read = self._read_folder if path.is_dir() else self._read_file
        return {"image": np.stack(read(path, choose)), "label": self._labels[index]}

    def _read_folder(self, path: Path, choose: Choose) -> list[Pixels]:
        try:
            found = _contents(path)
        except OSError as error:
            raise unreadable(str(path), error, error.strerror or str(error)) from error
        names = sorted(found.pictures, key=_by_number)
        files = [path / names[number] for number in choose(len(names))]
        return [
            read_image(
                file,
                name=str(file),
                size=self._size,
                channels=self._channels,
                orientation=self._orientation,
            )
            for file in files
        ]

    def _read_file(self, path: Path, choose: Choose) -> list[Pixels]:
        take = partial(to_pixels, size=self._size, channels=self._channels)
        return read_frames(path, choose, take, orientation=self._orientation)


class _Listing(NamedTuple):
    """Names of the videos, relative, their labels or None, and the names of the classes if told."""

    names: list[str]
    labels: list[int] | None
    classes: Sequence[str] = ()


class _Contents(NamedTuple):
    """Sorted names of what stands directly in a folder."""

    pictures: list[str]
    videos: list[str]
    others: list[str]
    folders: list[str]


def _scan(root: Path) -> _Listing:
    """Finds the videos of a folder, and whether they stand in classes."""
    if not root.is_dir():
        raise ValueError(f"data.path: no folder or list {str(root)!r}, wanted one of videos")
    top = _contents(root)
    if top.pictures:
        raise ValueError(
            f"data.path: {root} holds pictures ({top.pictures[0]}), "
            "wanted videos, or a folder of frames for each"
        )
    passed_over = top.others
    below = {folder: sorted(_videos(root, folder, passed_over)) for folder in top.folders}
    empty = [folder for folder, names in below.items() if not names]
    if empty:
        raise ValueError(f"data.path: folder {root / empty[0]} has no videos, wanted at least one")
    classes = [folder for folder, names in below.items() if names != [folder]]
    loose = sorted({*top.videos, *below} - {*classes})
    if classes and loose:
        raise ValueError(
            f"data.path: {root} has videos ({loose[0]}) beside folders of videos ({classes[0]}), "
            "wanted one or the other"
        )
    if not classes and not loose:
        raise ValueError(f"data.path: {root} has no videos, wanted at least one")
    tell_passed_over(root, passed_over, "that are no videos or frames known here")
    if not classes:
        return _Listing(loose, None)
    names = [name for folder in classes for name in below[folder]]
    labels = [label for label, name in enumerate(classes) for _ in below[name]]
    return _Listing(names, labels, classes)


def _videos(root: Path, folder: str, passed_over: list[str]) -> Iterator[str]:
    """Names of all videos in a folder and below, relative to root; a folder of frames is one."""
    for place, standing in walk(root, folder):
        found = _by_kind(standing)
        passed_over += found.others
        if not found.pictures:
            yield from (os.path.join(place, name) for name in found.videos)
            continue
        others = [*found.videos, *found.folders]
        if others:
            raise ValueError(
                f"data.path: {root / place} has pictures ({found.pictures[0]}) beside {others[0]}, "
                "wanted the frames of a video alone in a folder"
            )
        yield place


def _contents(folder: Path) -> _Contents:
    return _by_kind(contents(folder))


def _by_kind(standing: Contents) -> _Contents:
    found = _Contents([], [], [*standing.others], standing.folders)
    for name in standing.files:
        kind = ending(name)
        known = found.pictures if kind in PICTURES else found.videos if kind in SUFFIXES else None
        (found.others if known is None else known).append(name)
    return found


def _is_video(name: str) -> bool:
    return ending(name) in SUFFIXES


def _by_number(name: str) -> tuple[list[int | str], str]:
    """Sorts 9.png before 10.png; a split at numbers alternates, so that like meets like."""
    parts = re.split("([0-9]+)", name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


def _read_list(path: Path) -> _Listing:
    """Reads `VIDEO LABEL` or `VIDEO` lines; a name may hold blanks."""
    try:
        text = read_text(path)
    except UnicodeDecodeError as error:
        raise ValueError(f"data.path: {path} is no text, wanted a folder or a list") from error
    lines = {n: line.strip() for n, line in enumerate(text.splitlines(), 1) if line.strip()}
    if not lines:
        raise ValueError(f"data.path: {path} is an empty list, wanted at least one video")
    matches = {number: _LABEL.fullmatch(line) for number, line in lines.items()}
    bare = [number for number, match in matches.items() if match is None]
    if len(bare) == len(lines):
        return _Listing([*lines.values()], None)
    if bare:
        raise ValueError(f"{path}:{bare[0]}: no label, wanted one in every line or in none")
    labelled = [match for match in matches.values() if match is not None]
    return _Listing([m["name"] for m in labelled], [int(m["label"]) for m in labelled])
