"""Files that appear whole or not at all."""

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

from skipdit_jax.checkpoints.errors import naming


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[io.BufferedWriter]:
    """Gives a file to write that takes the place of `path` when the block ends without an error.

    It is written under a temporary name in the same folder; after an error that file is removed
    and whatever stood at `path` is as it was.

    Raises:
      CheckpointError: the folder is missing or cannot be written, or the disk is full.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    with naming(target):
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
