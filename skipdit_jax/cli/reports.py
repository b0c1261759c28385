"""What a training run shows and writes while it runs: curves, pictures, a bar on a terminal."""

import importlib
import json
import sys
from types import TracebackType
from typing import Any

import jax
from rich.progress import Progress

from skipdit_jax.checkpoints.atomic import replacing_file
from skipdit_jax.cli.runner import make_progress
from skipdit_jax.runs.job import TrainingJob
from skipdit_jax.runs.previews import Preview
from skipdit_jax.training.logs import BoardLog, JsonLog, Record
from skipdit_jax.training.state import TrainState
from skipdit_jax.visualise.grids import save_png

CONFIG_FILE = "config.json"


class Reports:
    """The files and the terminal of a run; only process 0 writes and prints.

    Use as a context manager: leaving it closes the files.
    """

    def __init__(self, job: TrainingJob):
        """Makes the run folder with its config, and opens the logs.

        Raises:
          ValueError: config.sampling or config.wandb ask for what cannot be done.
          OSError: the run folder cannot be written.
        """
        loop, done = job.config.loop, int(job.state.step)
        self._folder = job.workdir / "samples"
        self._preview = Preview(job) if loop.sample_every else None
        self._leads = jax.process_index() == 0
        self._bar: Progress | None = None
        if self._leads:
            wandb = _import_wandb() if job.config.wandb else None
            _make_folder(job)
            self._wandb = wandb and wandb.init(
                project=job.config.wandb, dir=job.workdir, config=job.config.resolved
            )
            self._json = JsonLog(job.workdir / "metrics.jsonl", done)
            self._board = BoardLog(job.workdir / "tensorboard", done)
            self._bar = _make_bar(done, loop.steps) if sys.stderr.isatty() else None

    def __enter__(self) -> "Reports":
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
        if self._leads:
            self._board.close()
            if self._wandb is not None:
                self._wandb.finish()

    def tell(self, line: str) -> None:
        """Prints a line for the user."""
        if self._leads:
            print(line, flush=True)

    def record(self, record: Record) -> None:
        """Takes one record of the loop."""
        if not self._leads:
            return
        self._json.write(record)
        self._board.write(record)
        if self._wandb is not None:
            self._wandb.log(record, step=record["step"])
        known = {name: value for name, value in record.items() if value is not None}
        self.tell(" ".join(f"{name} {value:.5g}" for name, value in known.items()))
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=record["step"])

    def sample(self, done: int, state: TrainState) -> None:
        """Draws a grid with the averaged weights of this moment; all processes call it."""
        assert self._preview is not None, "the loop samples only when it was asked to"
        picture = self._preview.draw(state)
        if picture is None:
            return
        self._folder.mkdir(exist_ok=True)
        save_png(self._folder / f"step_{done:07d}.png", picture)
        self._board.picture("samples", picture, done)


def _make_bar(done: int, steps: int) -> Progress:
    bar = make_progress()
    bar.add_task("steps", total=steps, completed=done)
    return bar


def _make_folder(job: TrainingJob) -> None:
    job.workdir.mkdir(parents=True, exist_ok=True)
    with replacing_file(job.workdir / CONFIG_FILE) as file:
        file.write(json.dumps(job.config.resolved, indent=2).encode() + b"\n")


def _import_wandb() -> Any:
    try:
        return importlib.import_module("wandb")
    except ImportError as error:
        raise ValueError("wandb: not installed, wanted: pip install wandb") from error
