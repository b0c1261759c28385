"""What a training run shows on a terminal: lines of numbers and, where a person watches, a bar."""

import sys
from types import TracebackType

from rich.progress import Progress

from skipdit_jax.cli.distributed import say
from skipdit_jax.cli.runner import make_progress
from skipdit_jax.sharding import leads
from skipdit_jax.training.logs import Record


class Terminal:
    """Shows the records of a run; only process 0 prints.

    Use as a context manager: leaving it ends the bar.
    """

    def __init__(self, done: int, steps: int):
        """Shows nothing yet.

        Args:
          done: steps that the run has done already.
          steps: that it will have done in the end.
        """
        watched = leads() and sys.stderr.isatty()
        self._bar = _make_bar(done, steps) if watched else None

    def __enter__(self) -> "Terminal":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def record(self, record: Record) -> None:
        """Prints one record of the loop."""
        known = {name: value for name, value in record.items() if value is not None}
        say(" ".join(f"{name} {value:.5g}" for name, value in known.items()))
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=record["step"])


def _make_bar(done: int, steps: int) -> Progress:
    bar = make_progress()
    bar.add_task("steps", total=steps, completed=done)
    return bar
