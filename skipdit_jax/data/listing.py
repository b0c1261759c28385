"""What stands in people's folders and lists, read alike by every reader.

Links are followed, as by torchvision's ImageFolder; one that leads back to a folder above it is
not. Names that begin with a dot (macOS's `._NAME`, `.DS_Store`) are not there. Text may begin with
a byte-order mark, as Windows writes it.
"""

import codecs
import logging
import os
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
ENDINGS_TOLD = 5

_log = logging.getLogger(__name__)

Place = tuple[int, int]
"""Device and inode: a folder by whatever name."""


class Contents(NamedTuple):
    """Sorted names of what stands directly in a folder; links to nothing count as files.

    Attributes:
      folders: to look into.
      files: to read.
      others: pipes, sockets and devices, which nobody should open.
    """

    folders: list[str]
    files: list[str]
    others: list[str]


def contents(folder: Path) -> Contents:
    """What stands in a folder.

    Raises:
      OSError: it cannot be read.
    """
    found = Contents([], [], [])
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            # Not entry.is_dir(), which fails on a link to itself.
            linked = entry.is_symlink()
            if os.path.isdir(entry.path) if linked else entry.is_dir():
                found.folders.append(entry.name)
            elif entry.is_file(follow_symlinks=False) or (linked and _is_file(entry.path)):
                found.files.append(entry.name)
            else:
                found.others.append(entry.name)
    return found


def walk(root: Path, folder: str) -> Iterator[tuple[str, Contents]]:
    """A folder and all below it: (name relative to root, what stands in it).

    Args:
      root: links back to it are not followed.
      folder: relative to root; "" for root itself.

    Raises:
      OSError: a folder cannot be read.
    """
    return _walk(root, folder, frozenset({_place(root)} if folder else ()))


def _walk(root: Path, folder: str, above: frozenset[Place]) -> Iterator[tuple[str, Contents]]:
    place = _place(root / folder)
    if place in above:
        return
    found = contents(root / folder)
    yield folder, found
    for name in found.folders:
        yield from _walk(root, os.path.join(folder, name), above | {place})


def files_below(root: Path) -> list[str]:
    """Names of all files of a folder and below it, relative to it.

    Raises:
      OSError: a folder cannot be read.
    """
    return [os.path.join(place, name) for place, found in walk(root, "") for name in found.files]


def ending(name: str) -> str:
    """How a name ends, in small letters: ".png"."""
    return os.path.splitext(name)[1].lower()


def read_text(path: Path) -> str:
    """Text in UTF-8, or whatever its byte-order mark says.

    Raises:
      UnicodeDecodeError: it is no text.
      OSError: it cannot be read.
    """
    data = path.read_bytes()
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    return data.decode(encoding)


def by_ending(names: Collection[str]) -> str:
    """How many names there are of each ending: "2 .heic, 1 .txt"."""
    counts = Counter(ending(name) or "without ending" for name in names).most_common()
    told = [f"{count} {name}" for name, count in counts[:ENDINGS_TOLD]]
    return ", ".join(told if len(counts) <= ENDINGS_TOLD else [*told, "..."])


def tell_passed_over(root: Path, names: Collection[str], why: str) -> None:
    """Tells in the log how many files of a folder are not read."""
    if names:
        _log.warning(
            "data.path: %s: passed over %d files %s: %s", root, len(names), why, by_ending(names)
        )


def _is_file(path: str) -> bool:
    return os.path.isfile(path) or not os.path.exists(path)


def _place(folder: Path) -> Place:
    stat = os.stat(folder)
    return stat.st_dev, stat.st_ino
