"""The one training loop: batches in, logged and saved states out, the same for every family."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from skipdit_jax.training.logs import Record
from skipdit_jax.training.state import TrainState
from skipdit_jax.training.step import Metrics

Step = Callable[[TrainState, Any], tuple[TrainState, Metrics]]


class DivergedError(RuntimeError):
    """The loss is no longer a finite number."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How long to train and how often to report; all in steps.

    Attributes:
      steps: the run ends when the state has done this many.
      log_every: steps averaged into one record.
      checkpoint_every: steps between saves; the last step is always saved.
    """

    steps: int
    log_every: int = 100
    checkpoint_every: int = 1000

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value < 1:
                raise ValueError(f"{field.name}: got {value}, want 1 or more")


def train(
    state: TrainState,
    step_fn: Step,
    batches: Iterator[Any],
    config: LoopConfig,
    *,
    learning_rate: Callable[[int], Any],
    save: Callable[[int, TrainState], None],
    log: Callable[[Record], None],
) -> TrainState:
    """Runs from the state's own step to `config.steps` and returns the last state.

    Args:
      state: where to start; donated to the first step.
      step_fn: see `step.make_train_step`.
      batches: endless; its position must belong to the state.
      config: lengths.
      learning_rate: step -> rate, for the record.
      save: called as save(steps done, state) with states whose losses were all finite.
      log: called with {"step", "loss", "mse", "vb", "grad_norm", "lr", "images_per_second"}.

    Raises:
      DivergedError: a loss is NaN or infinite; the message names the step. Nothing is saved.
    """
    window: list[Metrics] = []
    clock = _Clock()
    for step in range(int(state.step), config.steps):
        batch = next(batches)
        state, metrics = step_fn(state, batch)
        window.append(metrics)
        clock.count(metrics, len(batch["label"]))
        done = step + 1
        last = done == config.steps
        saving = last or done % config.checkpoint_every == 0
        logging = last or done % config.log_every == 0
        if saving or logging:
            means = _finite_means(window, first_step=done - len(window) + 1)
        if logging:
            rate = float(learning_rate(step))
            log({"step": done, **means, "lr": rate, "images_per_second": clock.rate()})
            window = []
        if saving:
            save(done, state)
    return state


def _finite_means(window: list[Metrics], first_step: int) -> Record:
    """Averages a window of metrics on the host, or names its first step that is not finite."""
    columns: Any = map(np.asarray, zip(*jax.device_get(window), strict=True))
    values = Metrics(*columns)
    finite = np.isfinite(values.loss) & np.isfinite(values.grad_norm)
    if not finite.all():
        step = first_step + int(np.argmin(finite))
        found = values.loss[step - first_step], values.grad_norm[step - first_step]
        raise DivergedError(
            f"step {step}: loss {found[0]}, grad_norm {found[1]}, want finite numbers"
        )
    return {name: float(column.mean()) for name, column in values._asdict().items()}


class _Clock:
    """Images per second since the last reading; the first step, which compiles, does not count."""

    def __init__(self) -> None:
        self._started: float | None = None
        self._images = 0

    def count(self, metrics: Metrics, images: int) -> None:
        if self._started is None:
            jax.block_until_ready(metrics)
            self._started = time.perf_counter()
        else:
            self._images += images

    def rate(self) -> float | None:
        now = time.perf_counter()
        rate = self._images / (now - (self._started or now)) if self._images else None
        self._started, self._images = now, 0
        return rate
