"""The 1,797 real handwritten digits that ship inside scikit-learn: 8x8 grey pixels, 10 classes.

They are the test part of the "Optical Recognition of Handwritten Digits" set of the UCI machine
learning repository (Alpaydin and Kaynak, 1998): counts 0..16 of ink per 4x4 cell.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from skipdit_jax.optional import load

NUM_CLASSES = 10
IMAGE_SIZE = 8
MAX_INK = 16
# Every fifth image of each class, in the set's own order, is kept for testing. Neighbouring images
# in that order often come from one writer, and so fall mostly on both sides.
TEST_EVERY = 5
SPLITS = ("train", "test")


class Digits(NamedTuple):
    """Images float32 [N,8,8,1] in [-1, 1] and labels int32 [N]."""

    images: Float[np.ndarray, "N 8 8 1"]
    labels: Int[np.ndarray, "N"]


def load_digits(split: str) -> Digits:
    """Returns one side of the fixed, stratified split: "train" (1,442 images) or "test" (355).

    Raises:
      ValueError: unknown split, or scikit-learn is not installed.
    """
    if split not in SPLITS:
        raise ValueError(f"data.split: found {split!r}, wanted one of {SPLITS}")
    images, labels = _read()
    test = np.zeros(len(labels), bool)
    for label in range(NUM_CLASSES):
        test[np.flatnonzero(labels == label)[TEST_EVERY - 1 :: TEST_EVERY]] = True
    chosen = test if split == "test" else ~test
    return Digits(images[chosen], labels[chosen])


@functools.cache
def _read() -> Digits:
    raw = load("sklearn.datasets", "data.name 'digits'").load_digits()
    images = raw.images.astype(np.float32)[..., None] * np.float32(2 / MAX_INK) - np.float32(1)
    return Digits(images, raw.target.astype(np.int32))
