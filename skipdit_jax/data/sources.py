"""Examples by index, and what every source is checked for before a model sees them.

An example is {"image" [H,W,C], "label"}; sources of moments give {"mean", "logvar", "label"}.
"""

from typing import Any, Protocol, runtime_checkable

import numpy as np

Example = dict[str, Any]

BROKEN = "broken"
"""Key of the (name, reason) pairs of broken files that an example, then a batch, stands in for."""


class DataError(ValueError):
    """The data is not what the model needs; found while it is read."""


class BrokenExampleError(DataError):
    """One example cannot be read: `name` says which, `reason` why."""

    def __init__(self, name: str, reason: str):
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@runtime_checkable
class Source(Protocol):
    """Random access to examples: dicts of numpy arrays and numbers."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


class ArraySource:
    """Images [N,H,W,C] and labels [N] in memory, as examples {"image", "label"}."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        if len(images) != len(labels):
            raise ValueError(f"data: {len(images)} images but {len(labels)} labels")
        self._images, self._labels = images, labels

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> Example:
        return {"image": self._images[index], "label": self._labels[index]}


class CheckedSource:
    """Another source, each example of the wanted shape and with a label below `num_classes`.

    With `skip_broken`, the next readable example in the order of the source stands in for one that
    cannot be read, and carries the names of all that were passed over: batches stay full, and the
    order of all other examples does not change.
    """

    def __init__(
        self,
        source: Source,
        *,
        shape: tuple[int, int, int],
        num_classes: int,
        skip_broken: bool = False,
    ):
        self._source, self._shape = source, shape
        self._num_classes, self._skip = num_classes, skip_broken

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Example:
        broken: list[tuple[str, str]] = []
        for step in range(len(self)):
            at = (index + step) % len(self)
            try:
                return self._check(at, self._source[at]) | {BROKEN: tuple(broken)}
            except BrokenExampleError as error:
                if not self._skip:
                    raise
                broken.append((error.name, error.reason))
        raise DataError(f"data: all {len(self)} examples are broken, the last is {broken[-1][0]}")

    def _check(self, index: int, example: Example) -> Example:
        check_labels(np.asarray(example["label"]), self._num_classes, f"data: example {index}")
        for key, value in example.items():
            if key != "label" and value.shape != self._shape:
                raise DataError(
                    f"data: {key} of example {index} is {value.shape}, want {self._shape}"
                )
        return example | {"label": np.int32(example["label"])}


def check_labels(labels: np.ndarray, num_classes: int, where: str) -> None:
    """Raises DataError unless all labels (any shape) are in 0..num_classes-1."""
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if wrong.size:
        raise DataError(f"{where}: label {wrong.flat[0]}, want 0..{num_classes - 1} (num_classes)")
