"""Examples by index, and what every source is checked for before a model sees them.

An example is {"image" [H,W,C], "label"}; sources of moments give {"mean", "logvar", "label"}. Those
of texts have "text" [L,E] and "text_mask" [L] too, or those of several encoders.
"""

import errno
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np

Example = dict[str, Any]

BROKEN = "broken"
"""Key of the (name, reason) pairs of broken files that an example, then a batch, stands in for."""


IMAGE_LABELS = "image_labels"
"""Key of the labels of independent images that stand behind the frames of a clip."""

PIXELS = ("image", "mean", "logvar", "sample")
"""Keys of what has the shape that a model takes."""

TEXT, MASK_ENDING = "text", "_mask"
"""How the keys of embeddings begin, and how those of their masks end."""

CAPTION = "caption"
"""Key of what an example shows, in words."""

MACHINE_ERRORS = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN}
)
"""What tells of open files, disks and networks, not of the file that was read."""

ANY_CLASS = 2**31 - 1
"""num_classes of a model that takes no labels: any number of classes is right, none too."""


class DataError(ValueError):
    """The data is not what the model needs; found while it is read."""


class BrokenExampleError(DataError):
    """One example cannot be read: `name` says which, `reason` why."""

    def __init__(self, name: str, reason: str):
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def unreadable(name: str, error: BaseException, reason: str) -> DataError:
    """The error for an example that cannot be read.

    Not a broken example where the machine failed: the next attempt may read it, so that skipping it
    would make the examples depend on chance.
    """
    if is_of_machine(error):
        return DataError(f"{name}: {reason}")
    return BrokenExampleError(name, reason)


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


def is_of_machine(error: BaseException) -> bool:
    """Whether the machine failed to read a file that may be whole."""
    return getattr(error, "errno", None) in MACHINE_ERRORS


def classes_of(source: object) -> tuple[str, ...]:
    """Names of the classes of a source by label; none where it knows none."""
    return tuple(getattr(source, "classes", ()))


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
        shape: tuple[int, ...],
        num_classes: int,
        skip_broken: bool = False,
    ):
        self._source, self._shape = source, shape
        self._num_classes, self._skip = num_classes, skip_broken
        self.classes = classes_of(source)
        self.fingerprint = getattr(source, "fingerprint", "")
        self.texts = getattr(source, "texts", {})
        self.null_text = getattr(source, "null_text", {})

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Example:
        return first_readable(self._read, index, len(self), skip_broken=self._skip)

    def _read(self, index: int) -> Example:
        return check_example(self._source[index], index, self._shape, self._num_classes)


def first_readable(
    read: Callable[[int], Example], index: int, count: int, *, skip_broken: bool
) -> Example:
    """Reads example `index`, or the next readable one after it.

    Args:
      read: example of an index below `count`.
      index: where to begin; behind the last example comes the first.
      count: of all examples.
      skip_broken: False lets the first error pass.

    Returns:
      An example, with (name, reason) of those passed over under BROKEN.

    Raises:
      BrokenExampleError: the example is broken, and is not to be skipped.
      DataError: all examples are broken.
    """
    broken: list[tuple[str, str]] = []
    for step in range(count):
        try:
            return read((index + step) % count) | {BROKEN: tuple(broken)}
        except BrokenExampleError as error:
            if not skip_broken:
                raise
            broken.append((error.name, error.reason))
    name, reason = broken[-1]
    raise DataError(f"data: all {count} examples are broken, the last is {name}: {reason}")


def check_example(
    example: Example, index: int, shape: tuple[int, ...], num_classes: int
) -> Example:
    """Returns an example with its label as int32; DataError where it does not fit the model."""
    check_labels(np.asarray(example["label"]), num_classes, f"data: example {index}")
    for key, value in example.items():
        if key in PIXELS and value.shape != shape:
            raise DataError(f"data: {key} of example {index} is {value.shape}, wanted {shape}")
    return example | {"label": np.int32(example["label"])}


def check_labels(labels: np.ndarray, num_classes: int, where: str) -> None:
    """Raises DataError unless all labels (any shape) are in 0..num_classes-1."""
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if wrong.size:
        raise DataError(
            f"{where}: label {wrong.flat[0]}, wanted 0..{num_classes - 1} (num_classes)"
        )
