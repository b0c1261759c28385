"""Real handwritten digits that drift over a black canvas and bounce off its walls.

The stimulus of "Moving MNIST" (Srivastava et al., arXiv 1502.04681, section 3.1) from the digits of
scikit-learn, smaller and with a class: 8x8 digits enlarged to 16x16 on 32x32, each with a constant
velocity of 1 to 2 pixels a frame. Positions are not whole pixels; both the enlargement and the
placing interpolate linearly.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from skipdit_jax.data import digits
from skipdit_jax.data.clips import Window
from skipdit_jax.data.sources import Example

CANVAS, GLYPH = 32, 16
ROOM = CANVAS - GLYPH  # how far a digit can go
SPEEDS = (1.0, 2.0)
"""Pixels a frame."""
MAX_DIGITS = 2

Places = Float[np.ndarray, "F n 2"]
"""Top left corners (y, x) of n digits in each frame, in pixels."""


class MovingDigits(NamedTuple):
    """Videos float32 [N,F,32,32,1] in [-1, 1] and labels int32 [N]."""

    videos: Float[np.ndarray, "N F 32 32 1"]
    labels: Int[np.ndarray, "N"]


class MovingDigitsSource:
    """Clips of each digit of a split, alone or with another one of its class.

    With a seed, example i is the same motion every time, a pure function of split, seed and i, and
    clips begin at its start. Without one, every draw is a new motion (and a new second digit).

    Attributes:
      labels: of all examples.

    Raises:
      ValueError: unknown split, a number of digits other than 1 or 2, or scikit-learn is missing.
    """

    def __init__(self, split: str, *, num_digits: int = 1, seed: int | None = None):
        if not 1 <= num_digits <= MAX_DIGITS:
            raise ValueError(f"data.num_digits: found {num_digits}, wanted 1 or {MAX_DIGITS}")
        still = digits.load_digits(split)
        self.labels, self._num_digits = still.labels, num_digits
        self._entropy = None if seed is None else (seed, digits.SPLITS.index(split))
        self._glyphs = enlarge(still.images)
        self._of_class = [np.flatnonzero(self.labels == c) for c in range(digits.NUM_CLASSES)]

    def __len__(self) -> int:
        return len(self.labels)

    def draw(self, index: int, window: Window, rng: np.random.Generator) -> Example:
        """See `ClipSource`; fixed motion leaves `rng` as it is."""
        if self._entropy is not None:
            rng = np.random.default_rng((*self._entropy, index))
        label = self.labels[index]
        others = self._of_class[label]
        second = rng.choice(others[others != index], self._num_digits - 1)
        glyphs = self._glyphs[[index, *second]]
        times = window.stride * np.arange(window.num_frames)
        return {"image": render(glyphs, _drift(rng, times, len(glyphs))), "label": label}


def load_moving_digits(
    split: str, num_frames: int, *, num_digits: int = 1, seed: int = 0
) -> MovingDigits:
    """Returns the fixed video of every digit of a split; see `MovingDigitsSource`."""
    source = MovingDigitsSource(split, num_digits=num_digits, seed=seed)
    window, unused = Window(num_frames), np.random.default_rng(seed)
    drawn = [source.draw(index, window, unused) for index in range(len(source))]
    labels = np.array([one["label"] for one in drawn], np.int32)
    return MovingDigits(np.stack([one["image"] for one in drawn]), labels)


def enlarge(images: Float[np.ndarray, "N h h 1"]) -> Float[np.ndarray, "N 16 16"]:
    """Ink in [0, 1], twice the size: pixel centres of the small grid, its edges repeated."""
    side = images.shape[1]
    centres = np.clip((np.arange(GLYPH) + 0.5) * side / GLYPH - 0.5, 0, side - 1)
    weights = _linear(centres, side)
    return weights @ ((images[..., 0] + 1) / 2) @ weights.T


def _drift(rng: np.random.Generator, times: Int[np.ndarray, "F"], count: int) -> Places:
    """Corners of digits that start anywhere and bounce off the walls."""
    start = rng.uniform(0, ROOM, (count, 2))
    angle, speed = rng.uniform(0, 2 * np.pi, count), rng.uniform(*SPEEDS, count)
    velocity = speed[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    # A straight line through mirrored rooms, folded back into the first.
    straight = start[None] + times[:, None, None] * velocity[None]
    return ROOM - np.abs(straight % (2 * ROOM) - ROOM)


def render(glyphs: Float[np.ndarray, "n 16 16"], corners: Places) -> Float[np.ndarray, "F 32 32 1"]:
    """Frames in [-1, 1]; where digits meet, the brighter ink is seen."""
    places = _linear(np.arange(CANVAS) - corners[..., None], GLYPH)
    rows, columns = places[:, :, 0], places[:, :, 1]
    ink = (rows @ glyphs @ columns.swapaxes(-1, -2)).max(axis=1)
    return np.clip(2 * ink - 1, -1, 1)[..., None]


def _linear(at: Float[np.ndarray, "*n"], count: int) -> Float[np.ndarray, "*n count"]:
    """Weights of linear interpolation at positions of a grid of `count` points, zero beyond it."""
    distance = np.abs(at[..., None] - np.arange(count, dtype=np.float64))
    return np.maximum(0, 1 - distance).astype(np.float32)
