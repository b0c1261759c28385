"""Files with a caption each: beside them, in a list, or in tar shards as webdataset lays them out.

* a folder: NAME.png with NAME.txt or NAME.json beside it, also in folders below;
* a list NAME.jsonl: a line {"file": "a/b.png", "caption": "..."} each, relative to the list;
* NAME.tar, or a folder of such shards: members KEY.jpg with KEY.txt or KEY.json, see `tar_shards`.

A .txt is the caption; a .json has it under "caption" or "text".
"""

import itertools
import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from skipdit_jax.data.listing import contents, ending, read_text, tell_passed_over, walk
from skipdit_jax.data.sources import BrokenExampleError, unreadable

CAPTION_ENDINGS = (".txt", ".json")
FIELDS = ("caption", "text")
FILE_FIELD = "file"
LIST_ENDING = ".jsonl"


@runtime_checkable
class Captioned(Protocol):
    """Pictures or videos by number, each with its caption."""

    @property
    def names(self) -> Sequence[str]:
        """Of the files, for people."""
        ...

    def media(self, index: int) -> Path | bytes:
        """The file, or what is in it.

        Raises:
          DataError: it cannot be read.
        """
        ...

    def caption(self, index: int) -> str:
        """Its caption, in one line.

        Raises:
          BrokenExampleError: it has none.
        """
        ...


class FilesBeside:
    """Files of a folder, each with its caption in a file of the same name beside it.

    Raises:
      ValueError: no files, or no captions.
      OSError: a folder cannot be read.
    """

    def __init__(self, root: Path, endings: Collection[str]):
        self._root = root
        media: list[str] = []
        captions: set[str] = set()
        others: list[str] = []
        top = contents(root)
        below = (one for folder in top.folders for one in walk(root, folder))
        for place, found in itertools.chain([("", top)], below):
            for name in found.files:
                path, kind = os.path.join(place, name), ending(name)
                if kind in endings:
                    media.append(path)
                elif kind in CAPTION_ENDINGS:
                    captions.add(path)
                else:
                    others.append(path)
        if not media:
            raise ValueError(f"data.path: {root} holds no {wanted_files(endings)}")
        self._files = sorted(media, key=os.fsencode)
        beside = (_beside(name, captions) for name in self._files)
        self._captions = list(beside)
        if not any(self._captions):
            raise ValueError(
                f"data.path: {root} holds no captions, wanted {_names_beside(self._files[0])} "
                "beside each file"
            )
        self.names = [str(root / name) for name in self._files]
        tell_passed_over(root, others, "that are neither known here nor captions")

    def media(self, index: int) -> Path:
        """See `Captioned`."""
        return self._root / self._files[index]

    def caption(self, index: int) -> str:
        """See `Captioned`."""
        beside = self._captions[index]
        if beside is None:
            wanted = _names_beside(self._files[index])
            raise BrokenExampleError(self.names[index], f"no caption beside it, wanted {wanted}")
        path = self._root / beside
        try:
            text = read_text(path)
        except (OSError, UnicodeDecodeError) as error:
            raise unreadable(str(path), error, f"no caption: {error}") from error
        return caption_of(text, str(path))


class ListedFiles:
    """Files named in a list of JSON lines, with their captions; all lines are read at once.

    Raises:
      ValueError: a line that is none, in one line with its number.
    """

    def __init__(self, path: Path):
        self._files: list[Path] = []
        self._captions: list[str] = []
        try:
            lines = read_text(path).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: no list of captions: {error}") from error
        for number, line in enumerate(lines, 1):
            if line.strip():
                file, caption = _read_line(line, f"{path}:{number}")
                self._files.append(path.parent / file)
                self._captions.append(caption)
        if not self._files:
            raise ValueError(f"data.path: {path} is an empty list, wanted a file in each line")
        self.names = [str(file) for file in self._files]

    def media(self, index: int) -> Path:
        """See `Captioned`."""
        return self._files[index]

    def caption(self, index: int) -> str:
        """See `Captioned`."""
        return self._captions[index]


def caption_of(text: str, name: str) -> str:
    """The caption that a .txt or .json holds, in one line.

    Args:
      text: of the file.
      name: of the file; how it ends says what it is.

    Raises:
      BrokenExampleError: there is none in it.
    """
    if ending(name) == ".json":
        try:
            text = _field(json.loads(text))
        except ValueError as error:
            raise BrokenExampleError(name, f"no caption: {error}") from error
    caption = " ".join(text.split())
    if not caption:
        raise BrokenExampleError(name, "the caption is empty, wanted some words")
    return caption


def wanted_files(endings: Collection[str]) -> str:
    """What to call files of these endings, for an error."""
    return "videos" if ".mp4" in endings else "pictures"


def _field(stated: Any) -> str:
    """The caption in what a JSON file or line says; raises ValueError if it says none."""
    if isinstance(stated, Mapping):
        found = next((stated[name] for name in FIELDS if name in stated), None)
        if isinstance(found, str):
            return found
    raise ValueError(f"found {str(stated)[:60]}, wanted a text under {' or '.join(FIELDS)}")


def _read_line(line: str, place: str) -> tuple[str, str]:
    try:
        stated = json.loads(line)
        caption = " ".join(_field(stated).split())
        file = stated.get(FILE_FIELD)
        if not isinstance(file, str) or not file:
            raise ValueError(f"found {line.strip()[:60]}, wanted a name under {FILE_FIELD}")
        if not caption:
            raise ValueError("the caption is empty, wanted some words")
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
    return file, caption


def _beside(name: str, captions: Collection[str]) -> str | None:
    stem = os.path.splitext(name)[0]
    return next((f"{stem}{kind}" for kind in CAPTION_ENDINGS if f"{stem}{kind}" in captions), None)


def _names_beside(name: str) -> str:
    stem = os.path.basename(os.path.splitext(name)[0])
    return " or ".join(f"{stem}{kind}" for kind in CAPTION_ENDINGS)
