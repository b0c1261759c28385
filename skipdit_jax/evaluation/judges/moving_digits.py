"""Judges of moving digits: which digit a clip shows, frame by frame, and how it moves.

The digit of a frame is looked for where its ink is: the window around the centre of ink, shrunk to
the size of the real digits, goes to the classifier of `classifier.py`, which is fitted on windows
of real clips cut in the same way.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Float, Int

from skipdit_jax.data.digits import IMAGE_SIZE, Digits
from skipdit_jax.evaluation.judges.digits import DigitClassifier, fit_digit_classifier

SCALE = 2  # a moving digit is drawn at twice its size
WINDOW = SCALE * IMAGE_SIZE
BLACK = -1.0  # no ink, in clips of [-1, 1]

Clips = Float[np.ndarray | Array, "n F H W _C"]
Centres = Float[np.ndarray, "n F two"]


def centres(clips: Clips) -> Centres:
    """Where the ink of each frame is, (row, column) in pixels; the middle where there is none."""
    ink = np.clip((np.asarray(clips, np.float64)[..., 0] - BLACK) / 2, 0, 1)  # [n,F,H,W]
    height, width = ink.shape[2:]
    total = ink.sum(axis=(2, 3))
    empty, total = total == 0, np.maximum(total, np.finfo(np.float64).tiny)
    rows = (ink.sum(axis=3) @ np.arange(height)) / total
    columns = (ink.sum(axis=2) @ np.arange(width)) / total
    middle = np.array([(height - 1) / 2, (width - 1) / 2])
    return np.where(empty[..., None], middle, np.stack([rows, columns], axis=-1))


def windows(clips: Clips) -> Float[np.ndarray, "rows 8 8 1"]:
    """The square around the ink of every frame, shrunk to 8x8, [n F,8,8,1] in [-1, 1]."""
    corners = np.rint(centres(clips) - (WINDOW - 1) / 2).astype(int).reshape(-1, 2) + WINDOW
    frames = np.asarray(clips, np.float64).reshape(-1, *np.shape(clips)[2:4])
    margin = ((0, 0), (WINDOW, WINDOW), (WINDOW, WINDOW))
    padded = np.pad(np.clip(frames, -1, 1), margin, constant_values=BLACK)
    cut = np.stack(
        [
            frame[row : row + WINDOW, column : column + WINDOW]
            for frame, (row, column) in zip(padded, corners, strict=True)
        ]
    )
    boxes = cut.reshape(-1, IMAGE_SIZE, SCALE, IMAGE_SIZE, SCALE)
    return boxes.mean(axis=(2, 4))[..., None]


@dataclass(frozen=True)
class ClipJudge:
    """Says which digit a clip shows."""

    classifier: DigitClassifier

    def frames(self, clips: Clips) -> Int[np.ndarray, "n F"]:
        """The digit of every frame."""
        return self.classifier.predict(windows(clips)).reshape(np.shape(clips)[:2])

    def features(self, clips: Clips) -> Float[np.ndarray, "rows D"]:
        """What the classifier's last hidden layer makes of every frame, [n F,D]."""
        return self.classifier.features(windows(clips))

    def predict(self, clips: Clips) -> Int[np.ndarray, "n"]:
        """The digit that most frames of a clip show; of several the smallest."""
        votes = self.frames(clips)
        classes = np.arange(votes.max(initial=0) + 1)
        return np.argmax((votes[..., None] == classes).sum(axis=1), axis=1)

    def accuracy(self, clips: Clips, labels: Int[np.ndarray, "n"]) -> float:
        """Share of the clips that show the digit of their label, 0 to 1."""
        return float(np.mean(self.predict(clips) == labels))


def fit_clip_judge(clips: Clips, labels: Int[np.ndarray, "n"], seed: int = 0) -> ClipJudge:
    """Fits a judge on real clips of one digit each; takes a few seconds.

    Args:
      clips: [n,F,H,W,1] in [-1, 1].
      labels: of each.
      seed: of the classifier.
    """
    pictures = windows(clips).astype(np.float32)
    every = np.repeat(np.asarray(labels, np.int32), np.shape(clips)[1])
    return ClipJudge(fit_digit_classifier(Digits(pictures, every), seed))


def speeds(clips: Clips) -> Float[np.ndarray, "n"]:
    """Mean way of the centre of ink from frame to frame, pixels."""
    steps = np.diff(centres(clips), axis=1)
    return np.linalg.norm(steps, axis=-1).mean(axis=1)
