"""The record of a run: JSON lines and TensorBoard, in order of steps, also across restarts."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import image, scalar

from skipdit_jax.files import check_replaceable

Record = dict[str, Any]
DAMAGED = ".damaged"
"""Ending of a log that cannot be continued."""
BLOCK = 2**16  # bytes of a log read at a time, from its end


class JsonLog:
    """Appends records to a file of JSON lines.

    Attributes:
      path: the file; made with its first record.
      notes: what a user should know of it, a line each.
    """

    def __init__(self, path: Path, resumed_step: int = 0):
        """Opens a log and drops the records after `resumed_step`: their work was lost.

        Only its end is read. One that holds something else than records there is set aside.

        Raises:
          OSError: it cannot be read or written, or is a pipe or a device.
        """
        check_replaceable(path)
        self.path = path
        self.notes: tuple[str, ...] = ()
        if not path.exists():
            return
        try:
            with path.open("rb+") as file:
                file.truncate(_end_of(file, resumed_step))
        except ValueError as error:
            aside = path.with_name(path.name + DAMAGED)
            os.replace(path, aside)
            self.notes = (f"{path}: {error}: set aside as {aside.name}, a new log begins",)

    def write(self, record: Record) -> None:
        """Adds one record; it is on disk when this returns."""
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")


class BoardLog:
    """Writes records and pictures for TensorBoard; a resumed run hides what it will do again."""

    def __init__(self, folder: Path, resumed_step: int = 0):
        """Opens a new event file in the folder.

        Raises:
          OSError: as do all methods, where the disk is full: events are not left to a thread.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"))
        if resumed_step:
            start = SessionLog(status=SessionLog.START)
            self._writer.write_event(Event(step=resumed_step + 1, session_log=start))

    def write(self, record: Record) -> None:
        """Adds the numbers of one record."""
        for name, value in record.items():
            if name != "step" and value is not None:
                self._add(scalar(name, value), record["step"])
        self._writer.flush()

    def picture(self, name: str, picture: np.ndarray, step: int) -> None:
        """Adds a picture, uint8 [H,W,C]."""
        self._add(image(name, picture, dataformats="HWC"), step)
        self._writer.flush()

    def _add(self, summary: Any, step: int) -> None:
        self._writer.write_event(Event(wall_time=time.time(), step=step, summary=summary))

    def close(self) -> None:
        """Writes what is left."""
        self._writer.close()


def _end_of(file: BinaryIO, step: int) -> int:
    """The place behind the last record of at most that step; an unfinished last line is passed.

    Raises:
      ValueError: a line that is no record is met before.
    """
    for end, line in _lines_backwards(file):
        if not line.endswith(b"\n"):
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ValueError(f"holds a line that is no JSON ({error})") from error
        if not isinstance(record, dict) or not isinstance(record.get("step"), int):
            raise ValueError(f"holds a line that is no record ({line[:40]!r})")
        if record["step"] <= step:
            return end
    return 0


def _lines_backwards(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(place behind it, line) of all lines, from the last one on."""
    end = start = file.seek(0, os.SEEK_END)
    rest = b""
    while start:
        size = min(BLOCK, start)
        start -= size
        file.seek(start)
        first, *lines = (file.read(size) + rest).splitlines(keepends=True)
        for line in reversed([first, *lines] if start == 0 else lines):
            yield end, line
            end -= len(line)
        rest = first


def read_log(path: Path) -> list[Record]:
    """Reads the records of a log; an unfinished last line (a killed run) is left out.

    Raises:
      ValueError: a line before the last is no JSON.
    """
    records = []
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise ValueError(f"{path} line {number}: not JSON: {error}") from error
    return records
