"""Whole numbers as flags take them."""

import argparse

from skipdit_jax.config import MAX_SEED


def natural(text: str) -> int:
    """Reads 0, 1, 2, ...; raises ArgumentTypeError."""
    return _whole(text, 0)


def positive(text: str) -> int:
    """Reads 1, 2, 3, ...; raises ArgumentTypeError."""
    return _whole(text, 1)


def seed(text: str) -> int:
    """Reads 0..MAX_SEED; raises ArgumentTypeError."""
    number = _whole(text, 0)
    if number > MAX_SEED:
        raise argparse.ArgumentTypeError(f"{number} is above {MAX_SEED}")
    return number


def _whole(text: str, smallest: int) -> int:
    if not text.strip().isdecimal() or int(text) < smallest:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted a whole number >= {smallest}")
    return int(text)
