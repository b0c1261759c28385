"""What every measure asks of the features of its samples, and the line about too few of them."""

import numpy as np
from jaxtyping import Array, Float

# An underscore leaves the size unchecked: `same_width` tells widths that differ as a ValueError.
Features = Float[np.ndarray | Array, "_N _D"]
"""One row a sample, of any floating type."""

FEW = 10_000
"""Samples that a Fréchet distance should have.

It is too large by about a constant over N, and the constant differs from model to model: Chong &
Forsyth 1911.07023, section 3.
"""


def checked(place: str, features: Features, fewest: int) -> np.ndarray:
    """Features [N,D] as they are, on the host.

    Raises:
      ValueError: fewer samples than that, no table of numbers, or numbers that are not finite.
    """
    x = np.asarray(features)
    if x.ndim != 2 or len(x) < fewest or not x.shape[1]:
        raise ValueError(f"{place}: found shape {x.shape}, wanted [N,D] with N >= {fewest}")
    finite(place, x)
    return x


def finite(place: str, x: np.ndarray) -> None:
    """Raises ValueError for NaN and infinities."""
    if not np.isfinite(x).all():
        raise ValueError(f"{place}: found features that are NaN or infinite, wanted finite ones")


def same_width(place: str, width1: int, width2: int) -> None:
    """Raises ValueError if two sets have features of different networks."""
    if width1 != width2:
        raise ValueError(f"{place}: found widths {width1} and {width2}, wanted equal ones")


def few_samples(count: int, wanted: int = FEW) -> str | None:
    """A line that warns of a number from too few samples; None where they are enough."""
    if count >= wanted:
        return None
    return (
        f"{count:,} samples, fewer than {wanted:,}: Fréchet distances are too large, by a share "
        "that differs between models; compare only with numbers of as many samples"
    )
