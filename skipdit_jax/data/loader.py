"""Endless seeded batches over anything that can be indexed, with a position that can be saved."""

from typing import Any, Protocol, runtime_checkable

import grain
import numpy as np


@runtime_checkable
class Source(Protocol):
    """Random access to examples: dicts of numpy arrays and numbers."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...


class ArraySource:
    """Images [N,H,W,C] and labels [N] in memory, as examples {"image", "label"}."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        if len(images) != len(labels):
            raise ValueError(f"data: {len(images)} images but {len(labels)} labels")
        self._images, self._labels = images, labels

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": self._images[index], "label": self._labels[index]}


def make_batches(source: Source, *, batch_size: int, seed: int) -> grain.DatasetIterator:
    """Returns an endless iterator of batches, each epoch in a new order given by the seed.

    Epochs are joined before batches are cut: no image is dropped, every batch is full.
    `get_state()` returns a small JSON-able dict, `set_state()` continues exactly behind it.

    Args:
      source: the examples.
      batch_size: examples in a batch.
      seed: of the order.

    Raises:
      ValueError: an empty source or a batch size below 1.
    """
    if not len(source):
        raise ValueError("data: the set is empty, want at least one example")
    if batch_size < 1:
        raise ValueError(f"batch_size: got {batch_size}, want 1 or more")
    dataset = grain.MapDataset.source(source).seed(seed).shuffle().repeat(None)
    batches = dataset.batch(batch_size, drop_remainder=True)
    # One reading thread: sources in memory need no more, and it leaves the cores to the step.
    return iter(batches.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)))
