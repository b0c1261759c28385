"""Distances between sets of pictures, by way of their features.

Fréchet distance of two Gaussians (Dowson & Landau 1982; Heusel et al. 1706.08500, section 2, with
features of an Inception network: FID):

(1)  d² = |μ1 - μ2|² + tr(C1 + C2 - 2 (C1 C2)^½)

The trace of (C1 C2)^½ is the sum of the singular values of C1^½ C2^½: (C1 C2)^½ and the root of
C1^½ C2 C1^½ have the same eigenvalues. Both roots are taken through symmetric eigenvalues, so that
rank-deficient covariances need no regularisation and no complex number appears.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float

Features = Float[np.ndarray | Array, "_N _D"]

FEWEST = 2  # samples that have a covariance


class FeatureStatistics(NamedTuple):
    """Mean float64 [D] and covariance float64 [D,D]."""

    mean: Float[np.ndarray, "D"]
    covariance: Float[np.ndarray, "D D"]


def fit_gaussian(features: Features) -> FeatureStatistics:
    """Mean and unbiased covariance of features [N,D].

    Raises:
      ValueError: fewer than 2 samples, no table of numbers, or numbers that are not finite.
    """
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or len(x) < FEWEST:
        raise ValueError(f"fit_gaussian: found shape {x.shape}, wanted [N,D] with N >= {FEWEST}")
    if not np.isfinite(x).all():
        raise ValueError("fit_gaussian: found features that are NaN or infinite")
    mean = x.mean(axis=0)
    centred = x - mean[None]
    return FeatureStatistics(mean, centred.T @ centred / (len(x) - 1))


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


def frechet_of_features(features1: Features, features2: Features) -> float:
    """Squared Fréchet distance (1) of two sets of features [N1,D] and [N2,D].

    Small sets overstate it: compare only values of equal set sizes, beside that of two real sets.

    Raises:
      ValueError: sets that have no covariance, or of different D.
    """
    first, second = fit_gaussian(features1), fit_gaussian(features2)
    if len(first.mean) != len(second.mean):
        raise ValueError(
            f"frechet_of_features: found widths {len(first.mean)} and {len(second.mean)}, "
            "wanted equal ones"
        )
    return frechet_distance(*first, *second)


def _root(covariance: Float[np.ndarray, "D D"]) -> Float[np.ndarray, "D D"]:
    """The symmetric root of a covariance."""
    values, vectors = np.linalg.eigh(np.asarray(covariance, np.float64))
    return (vectors * np.sqrt(np.clip(values, 0, None))[None]) @ vectors.T
