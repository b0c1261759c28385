"""Files that appear whole or not at all, and the folder for what can be made or fetched again."""

import contextlib
import errno
import functools
import hashlib
import os
import re
import secrets
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there, and nothing is taken for left behind
    fcntl = None  # type: ignore[assignment]

_ENDING = ".tmp"
_NAME_SHOWN = 100  # characters of a file's name in that of its temporary: 255 bytes are the limit
_HOST = re.sub(r"[^\w-]", "_", socket.gethostname())[:60]
_TEMPORARY = re.compile(rf"\..*\.{re.escape(_HOST)}\.(?P<process>[0-9]+)\.[0-9a-f]{{8}}\{_ENDING}")
_FOLDERS = 64  # that a process remembers to have looked through
_KINDS = {
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
}


@contextlib.contextmanager
def replacing_path(path: str | os.PathLike[str], durable: bool = False) -> Iterator[Path]:
    """Gives a name to write to; that file takes the place of `path` if the block ends well.

    The name is in the same folder. After an error nothing is left there, and whatever stood at
    `path` is as it was. A link is written through, as by `open`: the file that it leads to is
    replaced, and the link stays. What killed processes of this host left in the folder goes away.

    Args:
      path: of the file.
      durable: wait for the disk first, so that this holds after a loss of power too.

    Raises:
      OSError: the folder is missing or cannot be written, the disk is full, or something stands at
        `path` that is no file.
    """
    target = Path(os.path.realpath(path))
    check_replaceable(target)
    remove_stale(target.parent)
    name = f".{target.name[:_NAME_SHOWN]}.{_HOST}.{os.getpid()}.{secrets.token_hex(4)}{_ENDING}"
    temporary = target.with_name(name)
    try:
        with _naming(temporary, target), _held(temporary):
            yield temporary
            if durable:
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _naming(temporary: Path, target: Path) -> Iterator[None]:
    """Lets errors name the file that a person knows: writing to a full disk names none at all."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(temporary), temporary):
            raise OSError(error.errno, error.strerror, str(target)) from error
        if error.errno is None and str(temporary) in str(error):  # of a library
            raise OSError(str(error).replace(str(temporary), str(target))) from error
        raise


def check_replaceable(path: str | os.PathLike[str]) -> None:
    """Makes sure that at most a regular file, or a link to one, stands at a path.

    Renaming a file over a device or a pipe would destroy it for everybody.

    Raises:
      OSError: a folder, a device, a pipe or a socket is there, or nobody can tell.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        kind = next((text for holds, text in _KINDS.items() if holds(mode)), "no regular file")
        reason = f"is {kind}, wanted a file or a new name"
        raise OSError(errno.EINVAL, reason, os.fspath(path))


@functools.lru_cache(maxsize=_FOLDERS)
def remove_stale(folder: Path) -> None:
    """Removes what processes of this host left in a folder that were killed while they wrote.

    A process looks once: folders of many samples hold tens of thousands of files. Never touched is
    what a living process may still write, of whatever host: its lock is held, or its number lives.

    Raises:
      OSError: the folder cannot be read.
    """
    if fcntl is None or not folder.is_dir() or not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return
    with os.scandir(folder) as entries:
        found = [entry.name for entry in entries if entry.name.endswith(_ENDING)]
    for name in found:
        match = _TEMPORARY.fullmatch(name)
        if match and not _lives(int(match["process"])) and not _is_locked(folder / name):
            with contextlib.suppress(PermissionError):  # somebody else's, in a folder like /tmp
                (folder / name).unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


@contextlib.contextmanager
def _held(temporary: Path) -> Iterator[None]:
    """Makes the file and holds its lock: also a process of another container sees that we live."""
    with temporary.open("xb") as file:
        if fcntl is None:
            file.close()
        else:
            with contextlib.suppress(OSError):  # a disk without locks: the process number stands
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _is_locked(path: Path) -> bool:
    """Whether somebody holds the lock of a file, or nobody can tell."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


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
