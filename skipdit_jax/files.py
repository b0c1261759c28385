"""Files that appear whole or not at all, and the folder for what can be made or fetched again."""

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

_ENDING = ".tmp"


@contextlib.contextmanager
def replacing_path(path: str | os.PathLike[str], durable: bool = False) -> Iterator[Path]:
    """Gives a name to write to; that file takes the place of `path` if the block ends well.

    The name is in the same folder. After an error nothing is left there, and whatever stood at
    `path` is as it was.

    Args:
      path: of the file.
      durable: wait for the disk first, so that this holds after a loss of power too.

    Raises:
      OSError: the folder is missing or cannot be written, or the disk is full.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}{_ENDING}")
    try:
        yield temporary
        if durable:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def check_folder(folder: Path) -> None:
    """Makes sure that a folder is there and can be written, or can be made.

    Raises:
      OSError: it cannot, or something else has its name.
    """
    for found in (folder, *folder.absolute().parents):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            found.lstat()
            break
    if not found.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(found))
    # Not os.access: it asks about permission bits and knows nothing of read-only disks.
    with tempfile.TemporaryFile(dir=found):
        pass


def remove_leftovers(folder: Path) -> None:
    """Removes what processes left in a folder that were killed inside `replacing_path`.

    Nobody may be writing there.
    """
    for path in folder.glob(f".*{_ENDING}"):
        path.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal.

    Raises:
      OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_home() -> Path:
    """$XDG_CACHE_HOME/skipdit_jax or ~/.cache/skipdit_jax; not made here."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "skipdit_jax"
