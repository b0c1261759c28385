"""What a training run shows on a terminal: lines of numbers and, where a person watches, a bar."""

import datetime
import math
import sys
import time

import jax
from rich.progress import Progress

from skipdit_jax.cli.distributed import say
from skipdit_jax.cli.runner import make_progress
from skipdit_jax.registry.samples import num_classes
from skipdit_jax.runs import TrainingJob
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
        self._steps, self._last = steps, (done, time.monotonic())
        watched = leads() and sys.stderr.isatty()
        self._bar = _make_bar(done, steps) if watched else None

    def __enter__(self) -> "Terminal":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def record(self, record: Record) -> None:
        """Prints one record of the loop."""
        known = {name: value for name, value in record.items() if value is not None}
        say(" ".join(f"{name} {value:.5g}" for name, value in known.items()) + self._left(record))
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=record["step"])

    def _left(self, record: Record) -> str:
        """How long the rest takes at the speed since the last record, pauses included."""
        (before, then), now = self._last, (record["step"], time.monotonic())
        self._last = now
        if record["step"] in (before, self._steps):
            return ""
        each = (now[1] - then) / (record["step"] - before)
        return f" left {duration(each * (self._steps - record['step']))}"


def describe_job(job: TrainingJob) -> str:
    """What a run is about to do."""
    config, model, done = job.config, job.model, int(job.state.step)
    shapes = jax.tree.leaves(job.state.params)
    parameters = sum(math.prod(leaf.shape) for leaf in shapes)
    size = "x".join(map(str, model.sample_shape))
    examples, classes = job.batches.num_examples, num_classes(model)
    passes = ""
    if examples is not None:
        seen = config.batch_size * config.loop.steps / examples
        passes = f"{examples} examples, {f'{classes} classes' if classes else 'no classes'}; "
        passes += f"{config.batch_size} a step, {seen:.3g} times each in all"
    return (
        f"model    {config.resolved['model']['name']}: {model.num_stages} stages, "
        f"{model.num_skips} skips, {size}, {parameters:,} parameters\n"
        f"data     {' '.join(filter(None, (config.data.name, config.data.path)))}: {passes}\n"
        f"run      {job.workdir}: steps {done} to {config.loop.steps} on {job.mesh.size} devices"
    )


def describe_end(job: TrainingJob, seconds: float) -> str:
    """What a run has left, and what to do with it."""
    return (
        f"done     {job.config.loop.steps} steps, this time {duration(seconds)}; "
        f"python sample.py --ckpt {job.workdir}"
    )


def duration(seconds: float) -> str:
    """H:MM:SS, rounded."""
    return str(datetime.timedelta(seconds=round(seconds)))


def _make_bar(done: int, steps: int) -> Progress:
    bar = make_progress()
    bar.add_task("steps", total=steps, completed=done)
    return bar
