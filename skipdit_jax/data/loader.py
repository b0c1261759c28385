"""Endless seeded batches over anything that can be indexed, with a position that can be saved.

One infinite row of examples, the same for every number of processes: each epoch is the whole set
in a new order, epochs are joined without a gap. Global batch i is its examples [i*P*b, (i+1)*P*b),
and process p of P takes the p-th run of b of them. The last examples of an epoch open the batch
that the next epoch fills, so nothing is dropped, and nothing depends on threads or workers.
"""

import logging
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any

import grain
import numpy as np
from absl import flags

from skipdit_jax.config import check_seed
from skipdit_jax.data.sources import BROKEN, ArraySource, DataError, Example, Source

__all__ = ["ArraySource", "BatchIterator", "Reading", "Source", "make_batches"]

Transform = grain.transforms.Map | grain.transforms.RandomMap
OF_THE_RUN = (signal.SIGINT, signal.SIGUSR1)
"""Signals that ask a whole run to stop, and come to all of its processes."""
KILLED = "terminated unexpectedly"
"""What grain says of a worker that died."""
POSITION = "next_index"
"""Key of the number of global batches done, named as in the states of grain itself."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How batches are read; no value changes what they hold.

    Attributes:
      workers: processes that read and decode; 0 reads in this one.
      threads: reading threads of each process. One leaves the cores to the step.
      ahead: batches that each process keeps ready.
    """

    workers: int = 0
    threads: int = 1
    ahead: int = 2


class BatchIterator(grain.DatasetIterator):
    """Endless iterator of {"image" float32 [B,H,W,C], "label" int32 [B]} that can be continued.

    Clips are [B,F,H,W,C]; with independent images behind them, "image_labels" int32 [B,n] too.

    Attributes:
      num_examples: of the whole set, over all processes.
      classes: names of the classes by label; none where the set knows none.
      constants: arrays that all batches have in common: the texts of a dropped caption.
      broken: name -> reason of the broken files passed over by this object so far.
    """

    def __init__(
        self,
        batches: grain.MapDataset,
        *,
        num_examples: int,
        identity: dict[str, Any],
        reading: Reading,
        classes: tuple[str, ...] = (),
        constants: Mapping[str, np.ndarray] | None = None,
    ):
        super().__init__()
        self.num_examples, self.classes = num_examples, classes
        self.constants = dict(constants or {})
        self.broken: dict[str, str] = {}
        self._batches, self._identity, self._reading = batches, identity, reading
        self._done = 0
        self._running: grain.DatasetIterator | None = None
        self._ended = False

    def __next__(self) -> dict[str, np.ndarray]:
        if self._ended:
            raise ValueError("data: these batches are closed, wanted them open to read on")
        if self._running is None:
            self._running = read_ahead(self._batches, self._reading, self._done)
        try:
            batch = next(self._running)
        except Exception:
            # BatchIterator already read ahead would otherwise take the place of this one.
            self._stop()
            raise
        self._done += 1
        for name, reason in batch.pop(BROKEN):
            if name not in self.broken:
                self.broken[name] = reason
                _log.warning("data: skipped %s: %s", name, reason)
        return batch

    @property
    def skipped(self) -> int:
        """Number of broken files passed over by this object so far."""
        return len(self.broken)

    def get_state(self) -> dict[str, Any]:
        """Returns a small JSON-able dict: the number of global batches done, and of what."""
        return {POSITION: self._done, **self._identity}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues exactly behind the batch after which `state` was taken.

        The number of processes and workers may have changed, as long as the global batch (of all
        processes together) has not. A state of grain itself, with the position alone, is taken as
        one of the same data.

        Raises:
          ValueError: the state is of other data, another seed or another global batch.
        """
        done = state.get(POSITION)
        if not isinstance(done, int) or done < 0:
            raise ValueError(f"data state: {POSITION} is {done!r}, wanted a number of batches")
        for key in state.keys() - {POSITION}:
            if state[key] != self._identity.get(key):
                raise ValueError(
                    f"data state: {key} was {state[key]!r}, is now {self._identity.get(key)!r}: "
                    "the order of examples would differ"
                )
        self._stop()
        self._done = done

    def close(self) -> None:
        """Ends the reading threads and worker processes."""
        self._stop()
        self._ended = True
        super().close()

    def _stop(self) -> None:
        if self._running is not None:
            self._running.close()
            self._running = None


def make_batches(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
    shuffle: bool = True,
    transforms: Sequence[Transform] = (),
    identity: dict[str, Any] | None = None,
    reading: Reading | None = None,
    classes: tuple[str, ...] = (),
    constants: Mapping[str, np.ndarray] | None = None,
) -> BatchIterator:
    """Returns an endless iterator of batches, each epoch in a new order given by the seed.

    Epochs are joined before batches are cut: no image is dropped, every batch is full.
    `get_state()` returns a small JSON-able dict, `set_state()` continues exactly behind it.

    Args:
      source: the examples.
      batch_size: examples in a batch of this process.
      seed: of the order and of random transforms.
      process_index: which run of each global batch is taken.
      process_count: global batches have process_count * batch_size examples.
      shuffle: False keeps the order of the source in every epoch.
      transforms: applied to single examples; random ones draw anew for each example and epoch.
      identity: more JSON-able facts that a state must agree with to be continued.
      reading: threads, workers and batches ahead.
      classes: names of the classes by label, if known.
      constants: see `BatchIterator`.

    Raises:
      ValueError: an empty source, a seed beyond 32 bits, a batch size below 1, or a process outside
        the count.
    """
    if not len(source):
        raise ValueError("data: the set is empty, wanted at least one example")
    check_seed(seed, "seed")
    if batch_size < 1:
        raise ValueError(f"batch_size: found {batch_size}, wanted 1 or more")
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index: found {process_index}, wanted 0..{process_count - 1}")
    examples = grain.MapDataset.source(source).seed(seed)
    examples = (examples.shuffle() if shuffle else examples).repeat(None)
    for transform in transforms:
        random = isinstance(transform, grain.transforms.RandomMap)
        examples = examples.random_map(transform) if random else examples.map(transform)
    batches = examples.batch(batch_size, drop_remainder=True, batch_fn=stack)
    return BatchIterator(
        batches[process_index::process_count],
        num_examples=len(source),
        identity={
            **(identity or {}),
            "examples": len(source),
            "seed": seed,
            "shuffle": shuffle,
            "global_batch": batch_size * process_count,
        },
        reading=reading or Reading(),
        classes=classes,
        constants=constants,
    )


def stack(examples: Sequence[Example]) -> dict[str, Any]:
    """Arrays stacked; notes on broken files joined, as they differ in number."""
    keys = [key for key in examples[0] if key != BROKEN]
    batch: dict[str, Any] = {key: np.stack([one[key] for one in examples]) for key in keys}
    return batch | {BROKEN: [note for one in examples for note in one.get(BROKEN, ())]}


def read_ahead(
    batches: grain.MapDataset, reading: Reading, start: int = 0
) -> grain.DatasetIterator:
    """Iterates from a position; starting there keeps grain's worker states out of ours.

    Args:
      batches: each is read by one thread.
      reading: threads, workers and batches ahead.
      start: the first batch that is wanted.

    Raises:
      ValueError: workers are wanted and absl's flags are not parsed.
    """
    ahead = max(reading.ahead, reading.threads)
    options = grain.ReadOptions(num_threads=reading.threads, prefetch_buffer_size=ahead)
    rest = batches[start:].to_iter_dataset(options)
    if not reading.workers:
        return iter(rest)
    if not flags.FLAGS.is_parsed():
        raise ValueError(
            "data.workers: grain's worker processes need parsed absl flags: "
            "run under absl.app.run, or call absl.flags.FLAGS.mark_as_parsed() first"
        )
    workers = grain.MultiprocessingOptions(
        num_workers=reading.workers, per_worker_buffer_size=reading.ahead
    )
    return _Workers(iter(rest.mp_prefetch(workers)))


class _Workers(grain.DatasetIterator):
    """Worker processes: one that is killed is told, and signals of a terminal are not for them."""

    def __init__(self, batches: grain.DatasetIterator):
        super().__init__()
        self._batches, self._started = batches, False

    def __next__(self) -> Any:
        try:
            if self._started:
                return next(self._batches)
            # What starts now is born deaf to these; here they come through when it has started.
            resource_tracker.ensure_running()  # its start would unblock them again
            before = signal.pthread_sigmask(signal.SIG_BLOCK, OF_THE_RUN)
            try:
                self._started = True
                return next(self._batches)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        except RuntimeError as error:
            if KILLED not in str(error):
                raise
            reason = str(error).split(". ")[0]
            raise DataError(f"data.workers: {reason}: killed, perhaps for memory") from error

    def get_state(self) -> dict[str, Any]:
        """The state of what it reads from."""
        return self._batches.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Sets that state."""
        self._batches.set_state(state)

    def close(self) -> None:
        """Ends the processes."""
        self._batches.close()
        super().close()
