"""The files of a training run beside its checkpoints: config, curves, pictures, weights."""

import contextlib
import dataclasses
import json

from skipdit_jax import sharding, weights
from skipdit_jax.checkpoints.atomic import replacing_file
from skipdit_jax.optional import load
from skipdit_jax.runs.class_names import CLASSES
from skipdit_jax.runs.evaluation import Evaluation
from skipdit_jax.runs.job import TrainingJob
from skipdit_jax.runs.locks import FolderLock
from skipdit_jax.runs.previews import Preview
from skipdit_jax.training.logs import BoardLog, JsonLog, Record
from skipdit_jax.training.state import TrainState, ema_name
from skipdit_jax.visualise.grids import save_png

CONFIG_FILE = "config.json"


class RunFolder(contextlib.AbstractContextManager):
    """Writes into the folder of a run; of many processes only the first one does.

    Use as a context manager: leaving it closes the files and lets the folder go.

    Attributes:
      notes: what a user should know before the run starts, a line each.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, job: TrainingJob):
        """Makes the folder with the config, and opens the logs.

        Raises:
          ValueError: config.sampling, config.evaluation or config.wandb ask for what cannot be
            done, or another process is at work in the folder.
          OSError: the folder cannot be written.
        """
        done = int(job.state.step)
        self._job = job
        self._preview = Preview(job) if job.config.loop.sample_every else None
        self._evaluation = Evaluation(job) if job.config.loop.evaluate_every else None
        self._leads = sharding.leads()
        if self._leads:
            wandb = load("wandb", "wandb") if job.config.wandb else None
            self._lock = FolderLock(job.workdir, f"--workdir {job.workdir}")
            _write_config(job)
            self._wandb = wandb and wandb.init(
                project=job.config.wandb, dir=job.workdir, config=job.config.resolved
            )
            self._json = JsonLog(job.workdir / "metrics.jsonl", done)
            self.notes = self._json.notes
            self._scores = JsonLog(job.workdir / "evaluation.jsonl", done)
            self._board = BoardLog(job.workdir / "tensorboard", done)

    def __exit__(self, *_: object) -> None:
        if self._leads:
            self._board.close()
            if self._wandb is not None:
                self._wandb.finish()
            self._lock.close()

    def record(self, record: Record) -> None:
        """Adds one record of the loop to the curves."""
        if not self._leads:
            return
        self._json.write(record)
        self._board.write(record)
        if self._wandb is not None:
            self._wandb.log(record, step=record["step"])

    def sample(self, done: int, state: TrainState) -> None:
        """Draws a grid with the averaged weights of this moment; all processes call it."""
        assert self._preview is not None, "the loop samples only when it was asked to"
        picture = self._preview.draw(state)
        if picture is None:
            return
        folder = self._job.workdir / "samples"
        folder.mkdir(exist_ok=True)
        save_png(folder / f"step_{done:07d}.png", picture)
        self._board.picture("samples", picture, done)

    def evaluate(self, done: int, state: TrainState) -> None:
        """Evaluates samples of the averaged weights of this moment; all processes call it."""
        assert self._evaluation is not None, "the loop evaluates only when it was asked to"
        scores = self._evaluation.run(state)
        if scores is None:
            return
        record = {"step": done, **scores}
        self._scores.write(record)
        self._board.write(record)
        if self._wandb is not None:
            self._wandb.log(record, step=done)

    def export(self, state: TrainState) -> None:
        """Writes the averaged weights with all that sampling needs; all processes call it."""
        job, config = self._job, self._job.config
        ema = sharding.to_host(state.ema[ema_name(config.ema_decays[0])])
        if not self._leads:
            return
        weights.export_checkpoint(
            job.workdir / weights.RUN_WEIGHTS,
            ema,
            job.model.clone(config=dataclasses.replace(job.model.config, remat="none")),
            layout="native",
            diffusion=dataclasses.asdict(config.diffusion),
            sampling=config.sampling,
            **({CLASSES: list(job.batches.classes)} if job.batches.classes else {}),
            training={"step": int(state.step), "config": config.resolved},
        )


def _write_config(job: TrainingJob) -> None:
    with replacing_file(job.workdir / CONFIG_FILE) as file:
        file.write(json.dumps(job.config.resolved, indent=2).encode() + b"\n")
