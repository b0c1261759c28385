"""Which broken pictures a shard of latents lacks, noted beside it until the folder is finished.

A note is written before its shard, and taken away before a shard that lacks nothing: a shard that
is there always has the note that belongs to it.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from skipdit_jax.files import replacing_path

NOTE = ".broken.json"
"""What the name of a shard gets for that of its note."""

Note = tuple[str, str]
"""Name and reason of a broken picture or video."""


def write_notes(shard: Path, notes: Sequence[Note]) -> None:
    """Writes the note of a shard that is about to be written.

    Raises:
      OSError: it cannot be written.
    """
    if not notes:
        _path(shard).unlink(missing_ok=True)
        return
    with replacing_path(_path(shard), durable=True) as path:
        path.write_text(json.dumps(list(notes)))


def read_notes(shard: Path) -> tuple[Note, ...]:
    """What a shard lacks.

    Raises:
      ValueError: its note is damaged.
    """
    if not _path(shard).is_file():
        return ()
    try:
        return tuple((str(name), str(why)) for name, why in json.loads(_path(shard).read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{_path(shard)}: no note of broken pictures: {error}") from error


def remove_notes(folder: Path) -> None:
    """Removes the notes of a folder whose manifest tells all of them."""
    for path in folder.glob(f"*{NOTE}"):
        path.unlink(missing_ok=True)


def _path(shard: Path) -> Path:
    return shard.with_name(shard.name + NOTE)
