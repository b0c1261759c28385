"""Kernel distance of two sets of features (KID).

Bińkowski et al. 1801.01401, section 4 and appendix: the unbiased estimate of the squared maximum
mean discrepancy of m and n samples of width D,

(1)  MMD² = Σ_{i≠j} k(x_i, x_j) / m(m-1) + Σ_{i≠j} k(y_i, y_j) / n(n-1) - 2 Σ_ij k(x_i, y_j) / mn

(2)  k(x, y) = (x·y / D + 1)³

averaged over random subsets. Unlike the Fréchet distance it is right on average at any number of
samples, hence now and then below 0 for sets of one distribution.
"""

from typing import NamedTuple

import numpy as np

from skipdit_jax.evaluation.features import Features, checked, same_width

FEWEST = 2  # samples that have a pair
DEGREE, OFFSET = 3, 1.0


class KernelDistance(NamedTuple):
    """Mean and population standard deviation of (1) over subsets.

    The deviation is that of one subset, not of the mean.
    """

    mean: float
    std: float


def squared_mmd(features1: Features, features2: Features) -> float:
    """The estimate (1) of features [M,D] and [N,D], in float64.

    Raises:
      ValueError: sets of fewer than 2 samples or of different D, or numbers that are not finite.
    """
    x = checked("squared_mmd", features1, FEWEST)
    y = checked("squared_mmd", features2, FEWEST)
    same_width("squared_mmd", x.shape[1], y.shape[1])
    return _estimate(x, y)


def kernel_distance(
    features1: Features, features2: Features, subsets: int = 100, size: int = 1000, seed: int = 0
) -> KernelDistance:
    """KID of features [N1,D] and [N2,D]: (1) over random subsets, each without repetition.

    Args:
      features1: of one set.
      features2: of the other.
      subsets: how many.
      size: samples of a subset, of either set.
      seed: of numpy's generator. Another order of the rows is another draw.

    Raises:
      ValueError: fewer samples than a subset has, sets of different D, or numbers that are not
        finite.
    """
    if subsets < 1 or size < FEWEST:
        raise ValueError(
            f"kernel_distance: found {subsets} subsets of {size}, wanted 1 or more of {FEWEST} up"
        )
    x = checked("kernel_distance", features1, size)
    y = checked("kernel_distance", features2, size)
    same_width("kernel_distance", x.shape[1], y.shape[1])
    rng = np.random.default_rng(seed)
    found = [
        _estimate(*(part[rng.choice(len(part), size, replace=False)] for part in (x, y)))
        for _ in range(subsets)
    ]
    return KernelDistance(float(np.mean(found)), float(np.std(found)))


def _estimate(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x.astype(np.float64), y.astype(np.float64)
    return _pairs(x) + _pairs(y) - 2 * float(_kernel(x, y).mean())


def _pairs(x: np.ndarray) -> float:
    """Mean of the kernel over pairs of different samples."""
    values = _kernel(x, x)
    return float((values.sum() - np.trace(values)) / (len(x) * (len(x) - 1)))


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + OFFSET) ** DEGREE
