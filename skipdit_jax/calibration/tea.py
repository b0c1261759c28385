"""TeaCache's polynomial (arXiv 2411.19108, section 3.3).

The polynomial foretells by how much the output of the network changes from step to step, where the
modulated input of its first block changes by so much: least squares over all steps of all batches,
of the degree that foretells best the batches that it was not fitted to.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

HIGHEST = 4  # degree
PARTS = 4  # of cross-validation
Changes = Float[np.ndarray, "S"]


class Fit(NamedTuple):
    """A polynomial and how far it is off.

    Attributes:
      polynomial: coefficients, highest power first.
      left: root mean square of what it leaves, over that of the mean alone, where it was not
        fitted.
    """

    polynomial: tuple[float, ...]
    left: float


def fitted(batches: Sequence[tuple[Changes, Changes]]) -> Fit:
    """The polynomial of some batches.

    Args:
      batches: of each the changes of the probe and of the output; those of the first step are
        none.

    Raises:
      ValueError: fewer pairs than a polynomial has coefficients.
    """
    x, y = (np.concatenate([one[side][1:] for one in batches]) for side in (0, 1))
    if len(x) <= HIGHEST + PARTS:
        wanted = HIGHEST + PARTS + 1
        raise ValueError(f"calibration: found {len(x)} pairs of changes, wanted {wanted} or more")
    spread = float(np.std(y)) or 1.0
    errors = [_error(x, y, degree) for degree in range(1, HIGHEST + 1)]
    degree = 1 + int(np.argmin(errors))
    polynomial = np.polyfit(x, y, degree)
    return Fit(tuple(map(float, polynomial)), float(errors[degree - 1] / spread))


def _error(x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"], degree: int) -> float:
    """Root mean square of what is left of each part behind a fit to the others."""
    part, left = np.arange(len(x)) % PARTS, []
    for number in range(PARTS):
        rest = part != number
        polynomial = np.polyfit(x[rest], y[rest], degree)
        left.append(y[~rest] - np.polyval(polynomial, x[~rest]))
    return float(np.sqrt(np.mean(np.concatenate(left) ** 2)))
