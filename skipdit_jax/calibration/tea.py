"""TeaCache's polynomial (arXiv 2411.19108, section 3.3), and its threshold for a wanted speedup.

The polynomial foretells by how much the output of the network changes from step to step, where the
modulated input of its first block changes by so much: least squares over all steps of all batches,
of the degree that foretells best the batches that it was not fitted to.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from skipdit_jax.caching import notation
from skipdit_jax.caching.plan import CachePolicy
from skipdit_jax.calibration.thresholds import lowest

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


def computed(foretold: Changes, threshold: float) -> Bool[np.ndarray, "S"]:
    """The steps that TeaCache computes where a run changes so; see `TeaCache`."""
    steps, total = len(foretold), 0.0
    full = np.zeros(steps, bool)
    for step in range(steps):
        total += float(foretold[step])
        full[step] = step in (0, steps - 1) or total >= threshold
        if full[step]:
            total = 0.0
    return full


def threshold_for(
    foretold: Sequence[Changes], full_flops: float, cached_flops: float, wanted: float
) -> float:
    """The lowest threshold that saves as much as is wanted in runs that change so.

    Args:
      foretold: what the polynomial makes of the changes of each batch.
      full_flops: of a computed step.
      cached_flops: of a reused one.
      wanted: FLOPs without cache over those spent.

    Raises:
      ValueError: none does.
    """

    def saved(threshold: float) -> float:
        full = np.stack([computed(one, threshold) for one in foretold])
        spent = np.where(full, full_flops, cached_flops)
        return float(full.size * full_flops / spent.sum())

    most = float(max(np.abs(one).sum() for one in foretold)) + 1.0
    return lowest(saved, wanted, most)


def policy_of(polynomial: Sequence[float], threshold: float) -> CachePolicy:
    """TeaCache with these numbers."""
    settings = f"threshold={threshold!r}, polynomial={tuple(polynomial)!r}"
    policy = notation.read(f"teacache({settings})")
    assert policy is not None
    return policy
