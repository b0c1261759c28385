"""Distances between sets of pictures, by way of their features.

Fréchet distance of two Gaussians (Dowson & Landau 1982; Heusel et al. 1706.08500, section 2, with
features of an Inception network: FID):

(1)  d² = |μ1 - μ2|² + tr(C1 + C2 - 2 (C1 C2)^½)

The trace of (C1 C2)^½ is the sum of the singular values of C1^½ C2^½: (C1 C2)^½ and the root of
C1^½ C2 C1^½ have the same eigenvalues. Both roots are taken through symmetric eigenvalues, so that
rank-deficient covariances need no regularisation and no complex number appears.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from skipdit_jax.evaluation.features import Features, checked, same_width
from skipdit_jax.evaluation.moments import FEWEST, FeatureStatistics, fit_gaussian


def frechet_distance(
    mean1: Float[np.ndarray, "D"],
    covariance1: Float[np.ndarray, "D D"],
    mean2: Float[np.ndarray, "D"],
    covariance2: Float[np.ndarray, "D D"],
) -> float:
    """Squared Fréchet distance (1) of two Gaussians, in squared units of the features.

    Args:
      mean1: [D].
      covariance1: [D,D], symmetric; eigenvalues below 0 count as rounding errors of 0.
      mean2: [D].
      covariance2: [D,D].

    Examples:
      >>> one = np.ones((1, 1))
      >>> frechet_distance(np.zeros(1), one, np.full(1, 3.0), 4 * one)
      10.0
    """
    between = float(((mean1 - mean2) ** 2).sum())
    shared = np.linalg.svd(_root(covariance1) @ _root(covariance2), compute_uv=False).sum()
    spread = float(np.trace(covariance1) + np.trace(covariance2) - 2 * shared)
    return between + max(spread, 0.0)  # rounding can take equal covariances below 0


def frechet_between(first: FeatureStatistics, second: FeatureStatistics) -> float:
    """Squared Fréchet distance (1) of what was gathered: FID, sFID or FVD by their features.

    Raises:
      ValueError: statistics of different D.
    """
    same_width("frechet_between", len(first.mean), len(second.mean))
    return frechet_distance(*first, *second)


def frechet_to(reference: FeatureStatistics) -> Callable[[FeatureStatistics], float]:
    """Squared Fréchet distances (1) to one reference, whose root is taken once: for resampling.

    A tenth of the time of `frechet_between`. Roots of the eigenvalues of C1^½ C2 C1^½ stand in for
    singular values: those that should be 0 have half the digits, so that covariances of fewer
    samples than features are off by some 1e-8 of the spread for each missing rank.

    Args:
      reference: what all others are compared with.

    Returns:
      (statistics of the same D) -> the distance; a ValueError for another D.
    """
    root = _root(reference.covariance)

    def distance(other: FeatureStatistics) -> float:
        same_width("frechet_to", len(reference.mean), len(other.mean))
        between = float(((reference.mean - other.mean) ** 2).sum())
        product = root @ other.covariance @ root
        values = np.linalg.eigvalsh((product + product.T) / 2)
        shared = np.sqrt(np.clip(values, 0, None)).sum()
        spread = float(np.trace(reference.covariance) + np.trace(other.covariance) - 2 * shared)
        return between + max(spread, 0.0)

    return distance


def frechet_of_features(features1: Features, features2: Features) -> float:
    """Squared Fréchet distance (1) of two sets of features [N1,D] and [N2,D].

    Small sets overstate it: compare only values of equal set sizes, beside that of two real sets.

    Raises:
      ValueError: sets that have no covariance, or of different D.
    """
    first, second = fit_gaussian(features1), fit_gaussian(features2)
    same_width("frechet_of_features", len(first.mean), len(second.mean))
    return frechet_distance(*first, *second)


def frechet_of_videos(features1: Features, features2: Features) -> float:
    """FVD (Unterthiner et al. 1812.01717): (1) of features [N1,D] and [N2,D] of videos.

    A single video has no covariance: then it is |μ1 - μ2|² alone, as published evaluators have it,
    and no distance of distributions.

    Raises:
      ValueError: an empty set, sets of different D, or numbers that are not finite.
    """
    first = checked("frechet_of_videos", features1, fewest=1)
    second = checked("frechet_of_videos", features2, fewest=1)
    same_width("frechet_of_videos", first.shape[1], second.shape[1])
    if min(len(first), len(second)) >= FEWEST:
        return frechet_of_features(first, second)
    between = first.mean(axis=0, dtype=np.float64) - second.mean(axis=0, dtype=np.float64)
    return float((between**2).sum())


def _root(covariance: Float[np.ndarray, "D D"]) -> Float[np.ndarray, "D D"]:
    """The symmetric root of a covariance."""
    values, vectors = np.linalg.eigh(np.asarray(covariance, np.float64))
    return (vectors * np.sqrt(np.clip(values, 0, None))[None]) @ vectors.T
