"""Names of classes: a run keeps those of its data in its weights, and labels can be said by them.

In a native file they are the metadata "classes", a list by label.
"""

from collections.abc import Sequence

from skipdit_jax.checkpoints import Checkpoint, CheckpointError
from skipdit_jax.config import shown

CLASSES = "classes"
MOST_TOLD, MOST_LETTERS = 10, 60


def read_class_names(checkpoint: Checkpoint | None, num_classes: int) -> tuple[str, ...]:
    """The names that a checkpoint keeps, by label; none where it keeps none.

    Args:
      checkpoint: opened, or None.
      num_classes: of its model; the last ones may have no name.

    Raises:
      CheckpointError: what it keeps are no names of these classes.
    """
    stated = [] if checkpoint is None else checkpoint.metadata.get(CLASSES, [])
    sound = isinstance(stated, list) and all(isinstance(name, str) for name in stated)
    if checkpoint is not None and not (sound and len(stated) <= num_classes):
        raise CheckpointError(
            f"{checkpoint.path}: its metadata {CLASSES!r} is of no use, wanted names of at most "
            f"{num_classes} classes"
        )
    return tuple(stated)


def to_labels(
    texts: Sequence[int | str], names: Sequence[str], place: str = "labels"
) -> tuple[int, ...]:
    """Labels of what was typed: numbers, or names of classes.

    Args:
      texts: numbers and names.
      names: of the classes by label; () if nobody knows them.
      place: for the error.

    Examples:
      >>> to_labels([2, "cat"], ["cat", "dog", "owl"])
      (2, 0)

    Raises:
      ValueError: a name that no class has, or several.
    """
    return tuple(text if isinstance(text, int) else _label_of(text, names, place) for text in texts)


def printable(name: str) -> str:
    """A name that may come from anywhere, for one line on a terminal."""
    short = shown(name, MOST_LETTERS)
    return short if short.isprintable() else repr(short)


def _label_of(text: str, names: Sequence[str], place: str) -> int:
    found = [label for label, name in enumerate(names) if name == text]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"{place} {text!r}: found labels {found[:MOST_TOLD]} of that name, wanted a number"
        )
    if not names:
        raise ValueError(
            f"{place} {text!r}: wanted whole numbers, the weights keep no names of classes"
        )
    told = ", ".join(map(printable, names[:MOST_TOLD])) + ", ..." * (len(names) > MOST_TOLD)
    raise ValueError(f"{place} {text!r}: wanted whole numbers or names of classes: {told}")
