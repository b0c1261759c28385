"""From examples of pictures or clips to the batches that fill shards of latents.

Examples are numbered once for all processes. With mirroring, picture k gives the examples 2k, as it
is, and 2k+1, mirrored. Shard s holds the examples [s*S, (s+1)*S); its batches are cut from its
beginning on, and its last one is filled up. So a shard is the same whoever makes it, and when. A
broken picture that is skipped leaves its rows of a batch to zeros, which are not stored: all other
examples keep their places and their numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from skipdit_jax.data.latent_files import Manifest, shard_name
from skipdit_jax.data.latents import shard_labels
from skipdit_jax.data.loader import stack
from skipdit_jax.data.skipped import Note, read_notes
from skipdit_jax.data.sources import (
    BROKEN,
    CAPTION,
    BrokenExampleError,
    DataError,
    Example,
    Source,
)
from skipdit_jax.data.transforms import ScalePixels
from skipdit_jax.files import sha256_of

VIEWS = 2  # examples of a picture that is mirrored
KEPT = "kept"
"""Key of which rows of a batch are to be stored: bool [B]."""


class Piece(NamedTuple):
    """What one batch gives: some examples of a shard, by their numbers."""

    shard: int
    numbers: range


@dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """Which examples each shard and each batch hold.

    Attributes:
      pictures: pictures or clips of the source.
      mirrored: each is stored as it is and mirrored.
      shard_size: examples of a shard; the last may have fewer.
      batch_size: examples of a batch; the last of a shard may have fewer.
    """

    pictures: int
    mirrored: bool
    shard_size: int
    batch_size: int

    def __post_init__(self) -> None:
        """Raises ValueError, naming the field, for impossible numbers."""
        wanted = "an even number: mirror images stay together" if self.mirrored else "1 or more"
        for name in ("shard_size", "batch_size"):
            value = getattr(self, name)
            if value < 1 or value % self.views:
                raise ValueError(f"{name}: found {value}, wanted {wanted}")

    @property
    def views(self) -> int:
        """Examples of each picture."""
        return VIEWS if self.mirrored else 1

    @property
    def examples(self) -> int:
        """All examples."""
        return self.views * self.pictures

    @property
    def shards(self) -> int:
        """How many there are."""
        return -(-self.examples // self.shard_size)

    def numbers(self, shard: int) -> range:
        """The examples of a shard."""
        first = shard * self.shard_size
        return range(first, min(first + self.shard_size, self.examples))

    def pieces(self, shard: int) -> list[Piece]:
        """The batches of a shard.

        >>> plan = ShardPlan(pictures=7, mirrored=False, shard_size=5, batch_size=4)
        >>> [piece.numbers for piece in plan.pieces(0)]
        [range(0, 4), range(4, 5)]
        """
        numbers, size = self.numbers(shard), self.batch_size
        return [Piece(shard, numbers[at : at + size]) for at in range(0, len(numbers), size)]

    def name_of(self, number: int) -> str:
        """What an error calls an example."""
        picture, view = divmod(number, self.views)
        return f"example {number} (picture {picture}{', mirrored' if view else ''})"


class FullBatches:
    """Batches of a plan by index: {"image" float32 [B,...] in [-1, 1], "label" int32 [B]}.

    A short one is filled up with copies of its last example. Which rows are to be stored stands
    under KEPT, which pictures were broken, as (name, reason), under BROKEN.
    """

    def __init__(
        self,
        source: Source,
        plan: ShardPlan,
        pieces: Sequence[Piece],
        skipped_shape: tuple[int, ...] | None = None,
        captioned: bool = False,
    ):
        """Reads nothing yet.

        Args:
          source: of the pictures.
          plan: of the shards.
          pieces: those of them that are wanted.
          skipped_shape: of a picture; broken ones are passed over. None: they stop the reading.
          captioned: whether pictures have captions, under CAPTION.
        """
        self._of_broken = {CAPTION: ""} if captioned else {}
        self._source, self._plan, self._pieces = source, plan, pieces
        self._skipped_shape = skipped_shape

    def __len__(self) -> int:
        return len(self._pieces)

    def __getitem__(self, index: int) -> Example:
        numbers, views = self._pieces[index].numbers, self._plan.views
        pictures = range(numbers.start // views, numbers.stop // views)
        examples = [self._read(picture) for picture in pictures]
        if self._plan.mirrored:
            examples = [view for one in examples for view in (one, _mirrored(one))]
        missing = self._plan.batch_size - len(examples)
        return stack(examples + [examples[-1] | {KEPT: np.False_, BROKEN: ()}] * missing)

    def _read(self, picture: int) -> Example:
        try:
            return ScalePixels().map(self._source[picture]) | {KEPT: np.True_}
        except BrokenExampleError as error:
            if self._skipped_shape is None:
                raise
            image = np.zeros(self._skipped_shape, np.float32)
            notes = ((error.name, error.reason),)
            broken = {"image": image, "label": np.int32(0), KEPT: np.False_, BROKEN: notes}
            return broken | self._of_broken


def _mirrored(example: Example) -> Example:
    return example | {"image": example["image"][..., ::-1, :], BROKEN: ()}


def as_stored(
    columns: Mapping[str, Float[np.ndarray, "n *rest"]], dtype: str, plan: ShardPlan, first: int
) -> dict[str, np.ndarray]:
    """Rounds latents to the type they are stored in.

    Args:
      columns: arrays by name.
      dtype: "float16" or "float32".
      plan: for the names of examples.
      first: number of the first example.

    Raises:
      DataError: numbers that are not finite, or not any more; names the example.
    """
    stored = {}
    for name, column in columns.items():
        with np.errstate(over="ignore"):
            stored[name] = column.astype(dtype)
        finite = np.isfinite(stored[name]).reshape(len(column), -1).all(axis=1)
        if not finite.all():
            row = int(np.argmin(finite))
            worst = np.abs(column[row]).max()
            raise DataError(
                f"{plan.name_of(first + row)}: {name} goes up to {worst:g}, "
                f"wanted finite numbers that fit {dtype}"
            )
    return stored


def describe_shards(folder: Path, plan: ShardPlan, manifest: Manifest, **more: Any) -> Manifest:
    """Reads all shards of a folder and returns the manifest completed with what they hold.

    Args:
      folder: of the shards.
      plan: what they should hold.
      manifest: format, arrays, shape and dtype.
      **more: further fields of the manifest.

    Raises:
      ValueError: a shard is missing, or holds another number of examples; or nothing was readable.
    """
    shards: dict[str, int] = {}
    counts = np.zeros(0, np.int64)
    skipped: list[Note] = []
    names = [shard_name(number, manifest.format) for number in range(plan.shards)]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"{folder}: {len(missing)} shards are missing, first {missing[0]}; "
            "wanted a folder that all processes share"
        )
    for number, name in enumerate(names):
        labels = shard_labels(folder / name, manifest)
        notes = read_notes(folder / name)
        found, wanted = len(labels), len(plan.numbers(number)) - plan.views * len(notes)
        if found != wanted:
            raise ValueError(f"{folder / name}: holds {found} examples, wanted {wanted}")
        shards[name] = len(labels)
        skipped += notes
        new = np.bincount(labels, minlength=len(counts))
        counts = new + np.pad(counts, (0, len(new) - len(counts)))
    if not counts.any():
        name, reason = skipped[0]
        raise ValueError(f"{folder}: all pictures are broken, the first is {name}: {reason}")
    return replace(
        manifest,
        shards=shards,
        max_label=len(counts) - 1,
        checksums={name: sha256_of(folder / name) for name in names},
        class_counts=tuple(counts.tolist()),
        skipped=tuple(skipped),
        **more,
    )
