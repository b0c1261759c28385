"""What the benchmark of caches has measured so far: kept in a file, and summed up in rows."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cache_settings import Way
from benchmarks.digit_models import Cost
from skipdit_jax.checkpoints.atomic import replacing_file

ROUNDING = 1e-9  # of a mean: equal marks of all seeds have no spread
Record = dict[str, Any]
"""Of a model: "settings"; "seconds", way -> those of each round; "marks", way -> seed -> marks."""
Row = dict[str, Any]


@dataclass
class Ledger:
    """Records by model, written after every piece of work: what a file holds is not done again."""

    file: Path | None
    facts: dict[str, Any] = field(default_factory=dict)
    models: dict[str, Record] = field(default_factory=dict)

    @classmethod
    def opened(cls, file: Path | None) -> "Ledger":
        """The ledger of a file, empty if it is not there yet.

        Raises:
          ValueError: the file holds something else.
        """
        if file is None or not file.exists():
            return cls(file)
        try:
            found = json.loads(file.read_text())
            return cls(file, found["facts"], found["models"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file}: found no figures of this benchmark ({error!r})") from error

    def record(self, model: str, settings: dict[str, Any]) -> Record:
        """What is known of a model under these settings.

        Raises:
          ValueError: the file holds figures of other settings.
        """
        new = {"settings": settings, "seconds": {}, "marks": {}}
        record = self.models.setdefault(model, new)
        for name, wanted in settings.items():
            if (found := record["settings"].get(name)) != wanted:
                raise ValueError(
                    f"{self.file}: found {model} of {name} {found}, wanted {wanted}: take another "
                    "file"
                )
        return record

    def save(self) -> None:
        """Writes the file, if there is one."""
        if self.file:
            with replacing_file(self.file) as file:
                text = json.dumps({"facts": self.facts, "models": self.models}, indent=1)
                file.write(text.encode())


def rows_of(ways: Sequence[Way], record: Record, seeds: Sequence[int]) -> list[Row]:
    """One row for each way to sample, the run without cache first; marks are (mean, spread)."""
    seconds = {name: float(np.median(rounds)) for name, rounds in record["seconds"].items()}
    first = ways[0].case.name
    rows: list[Row] = []
    for method, case, _ in ways:
        drawn = [record["marks"][case.name][str(seed)] for seed in seeds]
        values = {name: [one[name] for one in drawn] for name in drawn[0]}
        cost = Cost(*(float(np.mean(values.pop(name))) for name in Cost._fields))
        rows.append(
            {
                "method": method,
                "setting": case.name,
                "computed + reused": f"{cost.computed:.3g} + {cost.reused:.3g}",
                "GFLOP": cost.gflop,
                "ceiling": (rows[0]["GFLOP"] if rows else cost.gflop) / cost.gflop,
                "s": seconds[case.name],
                "speedup": seconds[first] / seconds[case.name],
                **{name: mean_and_spread(of_seeds) for name, of_seeds in values.items()},
            }
        )
    return rows


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation over seeds; 0 of a single one."""
    if len(values) == 1 or not np.isfinite(values).all():  # samples may be those without cache
        return float(np.mean(values)), 0.0
    return float(np.mean(values)), float(np.std(values, ddof=1))


def cells(row: Row, columns: Sequence[str]) -> list[object]:
    """A row as the table shows it, mean ± spread."""
    return [_shown(row.get(column, "")) for column in columns]


def _shown(value: object) -> object:
    if not isinstance(value, (tuple, list)):
        return value
    mean, spread = value
    return f"{mean:.4g} ± {spread:.2g}" if spread > ROUNDING * abs(mean) else mean
