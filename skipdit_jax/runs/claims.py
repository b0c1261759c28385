"""A file in a folder of results that says which run they are of, so that no other adds to them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skipdit_jax.checkpoints.atomic import replacing_file


def claim(path: Path, wanted: Mapping[str, Any], place: str, what: str) -> None:
    """Makes the folder of a run and its record, or makes sure that the record is of this run.

    Args:
      path: of the record; processes that start together write the same.
      wanted: what all results of the run have in common, as plain JSON.
      place: flag and folder, for the error.
      what: the results, for the error.

    Raises:
      ValueError: the record is of another run (the first value that differs is named), or none.
      OSError: it cannot be made or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with replacing_file(path) as file:
            file.write(json.dumps(wanted, indent=1).encode())
        return
    try:
        found = dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: no record of a run: {error}") from error
    for name, value in wanted.items():
        if found.get(name) != value:
            raise ValueError(f"{place}: holds {what} of {name} {found.get(name)}, wanted {value}")
