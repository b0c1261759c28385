"""Tar shards of webdataset, read by index: where every member begins is found once.

The members of one key, KEY.jpg and KEY.txt, are one example; a key is a name up to the first dot of
its last part. Shards are not compressed: members are read straight from their places.
"""

import os
import tarfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from skipdit_jax.data.captions import CAPTION_ENDINGS, caption_of, wanted_files
from skipdit_jax.data.listing import tell_passed_over
from skipdit_jax.data.sources import BrokenExampleError, unreadable

TAR = ".tar"


class Member(NamedTuple):
    """Where a file is in a shard: number of the shard, name, place and length of its bytes."""

    shard: int
    name: str
    start: int
    size: int


class TarShards:
    """The examples of shards, in their order, see `captions.Captioned`.

    Raises:
      ValueError: a shard that is no tar, or is compressed; no files, or none with a caption.
    """

    def __init__(self, shards: Sequence[Path], endings: Collection[str]):
        self._shards = list(shards)
        self._media: list[Member] = []
        self._captions: list[Member | None] = []
        others: list[str] = []
        for number, shard in enumerate(self._shards):
            for members in _by_key(number, shard).values():
                chosen = [members.pop(kind) for kind in list(members) if kind in endings]
                texts = [members.pop(kind) for kind in CAPTION_ENDINGS if kind in members]
                others += [member.name for member in members.values()]
                if chosen:
                    self._media.append(chosen[0])
                    self._captions.append(texts[0] if texts else None)
        where = self._shards[0].parent if len(self._shards) > 1 else self._shards[0]
        if not self._media:
            raise ValueError(f"data.path: {where} holds no {wanted_files(endings)}")
        if not any(self._captions):
            raise ValueError(f"data.path: {where} holds no captions, wanted KEY.txt or KEY.json")
        self.names = [self._name(member) for member in self._media]
        tell_passed_over(where, others, "that are neither known here nor captions")

    def media(self, index: int) -> bytes:
        """See `captions.Captioned`."""
        return self._read(self._media[index])

    def caption(self, index: int) -> str:
        """See `captions.Captioned`."""
        member = self._captions[index]
        if member is None:
            raise BrokenExampleError(
                self.names[index], "no caption of its key, wanted a .txt or .json"
            )
        name = self._name(member)
        try:
            text = self._read(member).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise BrokenExampleError(name, f"no caption: {error}") from error
        return caption_of(text, name)

    def _name(self, member: Member) -> str:
        return f"{self._shards[member.shard]}/{member.name}"

    def _read(self, member: Member) -> bytes:
        try:
            with self._shards[member.shard].open("rb") as file:
                file.seek(member.start)
                data = file.read(member.size)
        except OSError as error:
            name = self._name(member)
            raise unreadable(name, error, error.strerror or str(error)) from error
        if len(data) != member.size:
            raise BrokenExampleError(self._name(member), "the shard ends in it")
        return data


def _by_key(number: int, shard: Path) -> dict[str, dict[str, Member]]:
    """Key -> ending -> member of one shard, in its order."""
    found: dict[str, dict[str, Member]] = {}
    try:
        with tarfile.open(shard, "r:") as archive:
            for info in archive:
                folder, name = os.path.split(info.name)
                if not info.isreg() or info.issparse() or name.startswith("."):
                    continue
                stem, dot, kind = name.partition(".")
                member = Member(number, info.name, info.offset_data, info.size)
                kinds = found.setdefault(os.path.join(folder, stem), {})
                kinds[f"{dot}{kind}".lower()] = member
    except (OSError, tarfile.TarError) as error:
        raise ValueError(f"{shard}: no tar that is not compressed: {error}") from error
    return found
