"""The record of a run: one JSON object per line, in order of steps, also across restarts."""

import json
import os
from pathlib import Path
from typing import Any

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
