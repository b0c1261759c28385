"""The record of a run: JSON lines and TensorBoard, in order of steps, also across restarts."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter

Record = dict[str, Any]


class JsonLog:
    """Appends records to a file of JSON lines.

    Attributes:
      path: the file; made with its first record.
    """

    def __init__(self, path: Path, resumed_step: int = 0):
        """Opens a log and drops the records after `resumed_step`: their work was lost."""
        self.path = path
        if path.exists():
            kept = [record for record in read_log(path) if record["step"] <= resumed_step]
            part = path.with_name(path.name + ".part")
            part.write_text("".join(json.dumps(record) + "\n" for record in kept))
            os.replace(part, path)

    def write(self, record: Record) -> None:
        """Adds one record; it is on disk when this returns."""
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")


class BoardLog:
    """Writes records and pictures for TensorBoard; a resumed run hides what it will do again."""

    def __init__(self, folder: Path, resumed_step: int = 0):
        """Opens a new event file in the folder."""
        purge = resumed_step + 1 if resumed_step else None
        self._writer = SummaryWriter(str(folder), purge_step=purge)

    def write(self, record: Record) -> None:
        """Adds the numbers of one record."""
        for name, value in record.items():
            if name != "step" and value is not None:
                self._writer.add_scalar(name, value, record["step"])
        self._writer.flush()

    def picture(self, name: str, picture: np.ndarray, step: int) -> None:
        """Adds a picture, uint8 [H,W,C]."""
        self._writer.add_image(name, picture, step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Writes what is left."""
        self._writer.close()


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
