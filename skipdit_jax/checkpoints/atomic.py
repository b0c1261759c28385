"""Checkpoints that appear whole or not at all, also after a loss of power."""

import contextlib
import io
import os
from collections.abc import Iterator

from skipdit_jax import files
from skipdit_jax.checkpoints.errors import naming


@contextlib.contextmanager
def replacing_file(path: str | os.PathLike[str]) -> Iterator[io.BufferedWriter]:
    """Gives a file to write that takes the place of `path` if the block ends well.

    Raises:
      CheckpointError: the folder is missing or cannot be written, or the disk is full.
    """
    with (
        naming(path),
        files.replacing_path(path, durable=True) as temporary,
        temporary.open("wb") as file,
    ):
        yield file
