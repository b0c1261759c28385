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
from skipdit_jax.training.throughput import Meter

TrainStep = Callable[[TrainState, Any], tuple[TrainState, Metrics]]
# Steps handed to the devices before the host waits: enough to keep them busy, few enough that
# batches do not pile up in their memory.
IN_FLIGHT = 2
MAX_STEPS = 2**31 - 1  # what the int32 of a state counts
MAY_BE_NEVER = ("sample_every", "evaluate_every")


class DivergedError(RuntimeError):
    """The loss is no longer a finite number."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How long to train and how often to report; all in steps.

    Attributes:
      steps: the run ends when the state has done this many.
      log_every: steps averaged into one record.
      checkpoint_every: steps between saves; the last step is always saved.
      sample_every: steps between sample grids; 0 draws none.
      evaluate_every: steps between evaluations of samples; 0 makes none.
    """

    steps: int
    log_every: int = 100
    checkpoint_every: int = 1000
    sample_every: int = 0
    evaluate_every: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, least = getattr(self, field.name), int(field.name not in MAY_BE_NEVER)
            if value < least:
                raise ValueError(f"{field.name}: found {value}, wanted {least} or more")
        if self.steps > MAX_STEPS:
            raise ValueError(f"steps: found {self.steps}, wanted at most {MAX_STEPS}")

    def due(self, done: int, every: int) -> bool:
        """Whether something that happens every so many steps, and at the end, happens now."""
        return bool(every) and (done % every == 0 or done == self.steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hooks:
    """What the loop calls.

    Attributes:
      learning_rate: step -> rate, for the record.
      save: called as save(steps done, state) with states whose losses were all finite.
      log: called with step, loss, mse, vb, grad_norm, lr and what `Meter.read` gives.
      sample: called as sample(steps done, state).
      evaluate: likewise.
      before_step: called with the number of steps done, before each step.
      stop: called with the number of steps done, after each step; True ends the run there, saved
        and logged. All processes must be given the same answer.
    """

    learning_rate: Callable[[int], Any]
    save: Callable[[int, TrainState], None]
    log: Callable[[Record], None]
    sample: Callable[[int, TrainState], None] = lambda done, state: None
    evaluate: Callable[[int, TrainState], None] = lambda done, state: None
    before_step: Callable[[int], None] = lambda done: None
    stop: Callable[[int], bool] = lambda done: False


def train(
    state: TrainState,
    step_fn: TrainStep,
    batches: Iterator[Any],
    config: LoopConfig,
    hooks: Hooks,
    meter: Meter,
) -> TrainState:
    """Runs from the state's own step to `config.steps`, or a stop, and returns the last state.

    Args:
      state: where to start; donated to the first step.
      step_fn: see `step.make_train_step`.
      batches: endless; its position must belong to the state.
      config: lengths.
      hooks: what to call.
      meter: measures speed.

    Raises:
      DivergedError: a loss is NaN or infinite; the message names the step and its batch. Nothing is
        saved. Steps that the optimiser skipped are no such steps.
    """
    window: list[Metrics] = []
    for step in range(int(state.step), config.steps):
        hooks.before_step(step)
        asked = time.perf_counter()
        batch = next(batches)
        waited = time.perf_counter() - asked
        state, metrics = step_fn(state, batch)
        window.append(metrics)
        jax.block_until_ready(window[-IN_FLIGHT:][0])
        meter.count(metrics, len(jax.tree.leaves(batch)[0]), waited)
        done = step + 1
        stopping = hooks.stop(done)
        saving = stopping or config.due(done, config.checkpoint_every)
        logging = stopping or config.due(done, config.log_every)
        if saving or logging:
            means = finite_means(window, first_step=done - len(window) + 1)
        if logging:
            hooks.log(
                {"step": done, **means, "lr": float(hooks.learning_rate(step)), **meter.read()}
            )
            window = []
        with meter.pause():
            if saving:
                hooks.save(done, state)
            if config.due(done, config.sample_every):
                hooks.sample(done, state)
            if config.due(done, config.evaluate_every):
                hooks.evaluate(done, state)
        if stopping:
            break
    return state


def finite_means(window: list[Metrics], first_step: int) -> Record:
    """Averages a window of metrics on the host, or names its first step that is not finite.

    Where the optimiser may skip steps, `steps_skipped` counts them, and the averages are those of
    the others; None if there are none.
    """
    rows = [one._replace(skipped=one.skipped or 0.0) for one in jax.device_get(window)]
    columns: Any = map(np.asarray, zip(*rows, strict=True))
    values = Metrics(*columns)
    skipped = np.asarray(values.skipped, bool)
    finite = skipped | (np.isfinite(values.loss) & np.isfinite(values.grad_norm))
    if not finite.all():
        step = first_step + int(np.argmin(finite))
        found = values.loss[step - first_step], values.grad_norm[step - first_step]
        raise DivergedError(
            f"step {step}: loss {found[0]}, grad_norm {found[1]}, wanted finite numbers "
            f"(batch {step} of the run, counted from 1)"
        )
    means = {
        name: None if skipped.all() else float(column[~skipped].mean())
        for name, column in values._asdict().items()
        if name != "skipped"
    }
    return means if window[0].skipped is None else means | {"steps_skipped": int(skipped.sum())}
