"""Clips of videos: F frames at a stride, drawn at random, and images of other videos behind them.

The draw is a random step of the pipeline like any other (see `transforms`): a clip depends on the
seed and on its place in the endless row of examples, and only the frames drawn are read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import grain
import numpy as np
from jaxtyping import Int

from skipdit_jax.data.sources import (
    BROKEN,
    IMAGE_LABELS,
    PIXELS,
    BrokenExampleError,
    DataError,
    Example,
    Source,
    check_example,
    classes_of,
    first_readable,
)

INDEX = "index"
"""Key of the number of a video that a clip has yet to be drawn from."""

Choose = Callable[[int], Int[np.ndarray, "F"]]
"""Number of frames of a video -> those that are wanted, ascending."""


@dataclass(frozen=True)
class Window:
    """The frames of a clip: `num_frames`, each `stride` after the one before."""

    num_frames: int
    stride: int = 1

    @property
    def span(self) -> int:
        """Frames that a video must have."""
        return (self.num_frames - 1) * self.stride + 1

    def choose(self, count: int, at: float, name: str) -> Int[np.ndarray, "F"]:
        """Returns which frames of a video of `count` the clip has.

        Args:
          count: frames of the video.
          at: in [0, 1): where the clip begins, from the first possible place to the last.
          name: of the video, for the error.

        Raises:
          BrokenExampleError: the video is too short.
        """
        if count < self.span:
            wanted = f"{self.num_frames} at stride {self.stride} ({self.span})"
            raise BrokenExampleError(name, f"{count} frames, wanted {wanted}")
        return int(at * (count - self.span + 1)) + self.stride * np.arange(self.num_frames)


ONE_FRAME = Window(1)


@runtime_checkable
class ClipSource(Protocol):
    """Videos by index."""

    def __len__(self) -> int: ...

    def draw(self, index: int, window: Window, rng: np.random.Generator) -> Example:
        """Draws {"image" [F,H,W,C], "label"} of a video; "mean" and "logvar" of stored moments.

        Raises:
          BrokenExampleError: the video cannot be read, or is too short.
        """
        ...


class StoredClips:
    """Clips out of the examples of another source, whose arrays are whole videos [T,H,W,C]."""

    def __init__(self, source: Source, *, name: str):
        self._source, self._name = source, name
        self.classes = classes_of(source)
        self.fingerprint = getattr(source, "fingerprint", "")
        self.texts = getattr(source, "texts", {})
        self.null_text = getattr(source, "null_text", {})

    def __len__(self) -> int:
        return len(self._source)

    def draw(self, index: int, window: Window, rng: np.random.Generator) -> Example:
        """See `ClipSource`."""
        name = f"{self._name}[{index}]"
        at = rng.random()
        chosen = {}
        for key, stored in self._source[index].items():
            if key not in PIXELS:
                chosen[key] = stored
            elif stored.ndim != 4:
                raise DataError(f"{name}: {key} is {stored.shape}, wanted a clip [F,H,W,C]")
            else:
                chosen[key] = stored[window.choose(len(stored), at, name)]
        return chosen


class Indices:
    """The numbers of the videos, as the examples that `DrawClip` begins with."""

    def __init__(self, count: int):
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Example:
        return {INDEX: index}


class DrawClip(grain.transforms.RandomMap):
    """The number of a video becomes a clip of it: {"image" [F,H,W,C], "label"}.

    For joint training of video and images (section 3.4 of Latte, Ma et al., 2024), n frames of n
    other videos stand behind those of the clip, [F+n,H,W,C], and "image_labels" [n] has their
    labels. With `skip_broken`, the next readable video stands in for a broken one, as in
    `CheckedSource`.
    """

    def __init__(
        self,
        clips: ClipSource,
        *,
        window: Window,
        frame_shape: tuple[int, ...],
        num_classes: int,
        images: int = 0,
        skip_broken: bool = False,
    ):
        self._clips, self._window, self._frame_shape = clips, window, frame_shape
        self._num_classes, self._images, self._skip = num_classes, images, skip_broken
        self.classes = classes_of(clips)
        self.fingerprint = getattr(clips, "fingerprint", "")

    def random_map(self, element: Example, rng: np.random.Generator) -> Example:
        """Returns the clip of a video."""
        index, count = element[INDEX], len(self._clips)
        others = (index + rng.integers(1, max(2, count), self._images)) % count
        clip = self._draw(index, self._window, rng)
        return _joined(clip, [self._draw(int(other), ONE_FRAME, rng) for other in others])

    def _draw(self, index: int, window: Window, rng: np.random.Generator) -> Example:
        shape = (window.num_frames, *self._frame_shape)

        def read(at: int) -> Example:
            return check_example(self._clips.draw(at, window, rng), at, shape, self._num_classes)

        return first_readable(read, index, len(self._clips), skip_broken=self._skip)


class SeededClips:
    """One clip of each video, that a seed and the number of the video fix: a source like others."""

    def __init__(self, count: int, draw: DrawClip, seed: int):
        self._indices, self._draw, self._seed = Indices(count), draw, seed
        self.classes, self.fingerprint = draw.classes, draw.fingerprint

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Example:
        rng = np.random.default_rng((self._seed, index))
        return self._draw.random_map(self._indices[index], rng)


def _joined(clip: Example, images: Sequence[Example]) -> Example:
    """Puts single frames behind those of a clip, and the notes on broken videos together.

    Texts become [1+n,L,E]: of the clip, then of each image.
    """
    if not images:
        return clip
    together = {
        key: (np.concatenate if key in PIXELS else np.stack)(
            [clip[key], *(image[key] for image in images)]
        )
        for key in clip.keys() - {"label", BROKEN}
    }
    return together | {
        "label": clip["label"],
        IMAGE_LABELS: np.array([image["label"] for image in images], np.int32),
        BROKEN: sum((image[BROKEN] for image in images), clip[BROKEN]),
    }
