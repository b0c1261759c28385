"""Numbers as flags take them."""

import argparse
from collections.abc import Sequence

import numpy as np

from skipdit_jax.config import MAX_SEED

LARGEST = 2**31 - 1  # of every other whole number: what a 32-bit index of JAX holds
FINITE = float(np.finfo(np.float32).max)


def natural(text: str) -> int:
    """Reads 0, 1, 2, ...; raises ArgumentTypeError."""
    return _whole(text, 0)


def positive(text: str) -> int:
    """Reads 1, 2, 3, ...; raises ArgumentTypeError."""
    return _whole(text, 1)


def seed(text: str) -> int:
    """Reads 0..MAX_SEED; raises ArgumentTypeError."""
    return _whole(text, 0, MAX_SEED)


def finite(text: str) -> float:
    """Reads a number that float32 holds; raises ArgumentTypeError. NaN fits no range later on."""
    try:
        number = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted a number") from error
    if abs(number) > FINITE:
        raise argparse.ArgumentTypeError(f"{text!r} is beyond {FINITE:.3g}")
    return number


def labels(text: str) -> Sequence[int | str]:
    """Reads numbers of classes with commas between; another text is the name of a class."""
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        return [text]  # which the checkpoint may know


def _whole(text: str, smallest: int, largest: int = LARGEST) -> int:
    plain = text.strip()
    # The length first: Python itself refuses to read thousands of digits.
    if plain.isdecimal() and len(plain.lstrip("0")) > len(str(largest)):
        raise argparse.ArgumentTypeError(f"{text!r} is above {largest}")
    if not plain.isdecimal() or int(plain) < smallest:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted a whole number >= {smallest}")
    if int(plain) > largest:
        raise argparse.ArgumentTypeError(f"{text!r} is above {largest}")
    return int(plain)
