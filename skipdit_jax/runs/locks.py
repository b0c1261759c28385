"""One run at a time in a folder: a lock of the operating system, and a record of who holds it.

The lock goes with its process, however that ends. The record names the holder, and shows where the
disk knows no locks between hosts: its holder touches it every few seconds, so one that stays as it
is belongs to nobody any more.
"""

import contextlib
import json
import os
import socket
import threading
import time
from pathlib import Path

from filelock import FileLock, Timeout

LOCK, RECORD = ".lock", ".running"
BEAT_SECONDS = 5.0
WATCH_SECONDS = 3 * BEAT_SECONDS


class FolderLock(contextlib.AbstractContextManager):
    """Held from its making until `close`; also a context manager."""

    def __init__(self, folder: Path, place: str):
        """Takes the folder, which is made if missing; what a killed process left is taken over.

        Args:
          folder: of results.
          place: what an error begins with.

        Raises:
          ValueError: another process is at work there; its host and number are named.
          OSError: the folder cannot be made or written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._record, self._over = folder / RECORD, threading.Event()
        self._lock = FileLock(folder / LOCK, timeout=0)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise ValueError(_in_use(place, _read(self._record))) from error
        try:
            self._take_over(place)
            _write(self._record, {"host": socket.gethostname(), "process": os.getpid()})
        except BaseException:
            self._lock.release()
            raise
        self._beats = threading.Thread(target=self._beat, name="lock", daemon=True)
        self._beats.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets the folder go; a second call does nothing."""
        if self._over.is_set():
            return
        self._over.set()
        self._beats.join()
        self._record.unlink(missing_ok=True)
        Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release()

    def _take_over(self, place: str) -> None:
        """Makes sure that the last holder is gone: one of this host is, as its lock is free."""
        holder = _read(self._record)
        if holder.get("host") in (None, socket.gethostname()):
            return
        before, deadline = _touched(self._record), time.monotonic() + WATCH_SECONDS
        while time.monotonic() < deadline:
            time.sleep(BEAT_SECONDS / 5)
            if _touched(self._record) not in (before, None):
                raise ValueError(_in_use(place, holder))

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            with contextlib.suppress(FileNotFoundError):  # the folder was removed
                os.utime(self._record)


def _in_use(place: str, holder: dict[str, object]) -> str:
    who = f"process {holder.get('process', '?')} on {holder.get('host', 'an unknown host')}"
    return f"{place}: in use by {who}, wanted another folder, or that one to end first"


def _read(record: Path) -> dict[str, object]:
    try:
        return dict(json.loads(record.read_text()))
    except (FileNotFoundError, ValueError, TypeError):  # none, or one that was cut by a full disk
        return {}


def _write(record: Path, holder: dict[str, object]) -> None:
    """Raises OSError that names the record; half of one is not left on a full disk."""
    try:
        record.write_text(json.dumps(holder))
    except OSError as error:
        record.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(record)) from error


def _touched(record: Path) -> int | None:
    return record.stat().st_mtime_ns if record.exists() else None
