"""Runs a job in batches of one size, so that one program is compiled; progress; compile cache."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from skipdit_jax.caching.decisions import EACH
from skipdit_jax.caching.method import decides
from skipdit_jax.cli.job import SamplingJob
from skipdit_jax.files import cache_home
from skipdit_jax.pipeline import Sampled, Sampler, sample_keys

CACHE_OPTION = "jax_compilation_cache_dir"  # of JAX; its default is $JAX_COMPILATION_CACHE_DIR
KEPT_FROM = "jax_persistent_cache_min_compile_time_secs"
WORTH_KEEPING = 0.1  # s; small models compile in less than JAX's own 1.0 (seen with jax 0.12)


class Batch(NamedTuple):
    """Some samples of a job.

    Attributes:
      keys: one per sample, [B].
      given: what they are conditioned on, leaves [B,...]; None: nothing.
      size: how many count; those after them only fill the batch up.
    """

    keys: jax.Array
    given: Any
    size: int

    @property
    def counted(self) -> Bool[np.ndarray, "B"]:
        """Which count."""
        return np.arange(len(self.keys)) < self.size


Draw = Callable[[Batch], Any]
"""Batch -> samples float32 [B,H,W,C] or [B,F,H,W,C]."""


class Result(NamedTuple):
    """What a run gave.

    Attributes:
      samples: float32 [n,H,W,C], of clips [n,F,H,W,C].
      compile_seconds: tracing and compiling, or reading the compilation cache.
      run_seconds: all batches.
      ran: of a cache that decides, what each batch ran and compared.
    """

    samples: np.ndarray
    compile_seconds: float
    run_seconds: float
    ran: Sequence[Sampled] = ()


def make_batches(job: SamplingJob) -> list[Batch]:
    """Cuts a job into batches; the last is filled up with further samples of its last row."""
    return [make_batch(job, first) for first in range(0, job.count, job.batch)]


def make_batch(job: SamplingJob, first: int) -> Batch:
    """The batch that begins with a sample number."""
    size = min(job.batch, job.count - first)
    rows = np.minimum(np.arange(first, first + job.batch), first + size - 1)
    given = jax.tree.map(lambda leaf: leaf[rows], job.given)
    if job.seeds is None:
        return Batch(sample_keys(job.key, first, job.batch), given, size)
    each = [(jax.random.key(seed), nth) for seed, nth in (job.seeds[row] for row in rows)]
    return Batch(jnp.concatenate([sample_keys(key, nth, 1) for key, nth in each]), given, size)


def draw_all(draw: Draw, batches: list[Batch]) -> np.ndarray:
    """Draws all batches, [n,...]; returns when the last number is there."""
    drawn = [draw(batch) for batch in batches]
    return np.concatenate(
        [np.asarray(samples)[: batch.size] for samples, batch in zip(drawn, batches, strict=True)]
    )


def run(job: SamplingJob, progress: bool = False) -> Result:
    """Compiles and samples.

    Args:
      job: what to sample.
      progress: show a bar that every step of the compiled loop moves on.
    """
    batches = make_batches(job)
    bar = StepBar(progress)
    telling = decides(job.settings.cache)
    sampler = job.settings.sampler(job.model, bar.advance if progress else None, details=telling)
    ran: list[Sampled] = []
    start = time.perf_counter()
    compiled = sampler.lower(job.params, batches[0].keys, batches[0].given).compile()
    compile_seconds = time.perf_counter() - start

    def draw(batch: Batch) -> Any:
        given = sampler.arguments(job.params, batch.keys, batch.given, counted=batch.counted)
        drawn = compiled(*given)
        if not telling:
            return drawn
        ran.append(drawn)
        return drawn.samples

    start = time.perf_counter()
    with bar.shown(len(batches) * len(sampler.inputs.t)):
        samples = draw_all(draw, batches)
        jax.effects_barrier()  # the last callbacks may still be on their way
    return Result(samples, compile_seconds, time.perf_counter() - start, jax.device_get(ran))


def make_progress(visible: bool = True) -> Progress:
    """A bar of counted work on stderr, as all programs show it."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not visible,
    )


def decisions_of(sampler: Sampler, drawn: Sampled) -> tuple[np.ndarray, np.ndarray]:
    """Kinds of all steps [S] of a batch and what was compared at them [S].

    Those of its first sample, and of the condition, where these decide for themselves.
    """
    kinds, compared = np.asarray(drawn.kinds.trunk), np.asarray(drawn.compared)
    plan = sampler.plan
    if plan is not None and getattr(plan.sockets.decision, "over", None) == EACH:
        kinds, compared = kinds[0], compared[0]
    if kinds.ndim > 1:
        kinds, compared = kinds[:, 0], compared[:, 0]
    return kinds, compared


class StepBar:
    """A progress bar on stderr; `advance` exists before the program that calls it.

    One that is not visible counts and shows nothing.
    """

    def __init__(self, visible: bool = True):
        self._bar = make_progress(visible)

    def advance(self, _index: Any = None) -> None:
        """Counts one step."""
        for task in self._bar.task_ids:
            self._bar.advance(task)

    @contextmanager
    def shown(self, total: int, description: str = "steps") -> Iterator[None]:
        """Shows the bar during the block."""
        self._bar.add_task(description, total=total)
        # Some releases of rich end even a disabled bar with an empty line.
        with nullcontext() if self._bar.disable else self._bar:
            yield


def use_compilation_cache() -> Path | None:
    """Makes JAX keep compiled programs between runs; returns the folder, None if there is none.

    The folder is $XDG_CACHE_HOME/skipdit_jax or ~/.cache/skipdit_jax. One that JAX was told by the
    user is left as it is, and where none can be written every run compiles.
    """
    if jax.config.values[CACHE_OPTION]:
        return None
    folder = cache_home()
    if not folder.is_absolute():
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(folder, os.W_OK | os.X_OK):
        return None
    jax.config.update(CACHE_OPTION, str(folder))
    jax.config.update(KEPT_FROM, WORTH_KEEPING)
    return folder
