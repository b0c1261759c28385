"""Distances between sets of pictures, by way of their features.

Fréchet distance of two Gaussians (Dowson & Landau 1982; Heusel et al. 1706.08500, section 2, with
features of an Inception network: FID):

(1)  d² = |μ1 - μ2|² + tr(C1 + C2 - 2 (C1 C2)^½)

The trace of (C1 C2)^½ is the sum of the singular values of C1^½ C2^½: (C1 C2)^½ and the root of
C1^½ C2 C1^½ have the same eigenvalues. Both roots are taken through symmetric eigenvalues, so that
rank-deficient covariances need no regularisation and no complex number appears.

Mean and covariance are gathered block by block (Chan, Golub & LeVeque 1979, eq. 2.1): n rows of
mean μ and scatter S = Σ (x - μ)(x - μ)ᵀ, and m rows of mean μ + δ and scatter S', have together

(2)  mean μ + δ m / (n + m),   scatter S + S' + δ δᵀ n m / (n + m),   C = scatter / (rows - 1)
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from skipdit_jax.evaluation.features import Features, checked, same_width

FEWEST = 2  # samples that have a covariance
BLOCK = 1024
"""Rows that are added up at once, however they come: the batch size changes no bit."""


class FeatureStatistics(NamedTuple):
    """Mean float64 [D] and covariance float64 [D,D]."""

    mean: Float[np.ndarray, "D"]
    covariance: Float[np.ndarray, "D D"]


class GaussianStream:
    """Mean and unbiased covariance (2) of features that come in batches, in float64.

    Takes 2 to 4 arrays of [D,D] and a block of rows, whatever the number of samples.

    Examples:
      >>> stream = GaussianStream()
      >>> for batch in np.arange(8.0).reshape(4, 2, 1):
      ...     stream.add(batch)
      >>> stream.count, stream.fit().mean
      (8, array([3.5]))
    """

    def __init__(self) -> None:
        self._done, self._mean, self._scatter = 0, np.zeros(0), np.zeros((0, 0))
        self._rows, self._waiting = np.zeros((BLOCK, 0)), 0

    @property
    def count(self) -> int:
        """Samples so far."""
        return self._done + self._waiting

    def add(self, features: Features) -> None:
        """Takes a batch [n,D], n >= 0; after an error it is as if the batch had not come.

        Raises:
          ValueError: no table of numbers, another D than before, or numbers that are not finite.
        """
        x = checked("GaussianStream", features, fewest=0)
        if not self.count:
            width = x.shape[1]
            self._mean, self._scatter = np.zeros(width), np.zeros((width, width))
            self._rows = np.empty((BLOCK, width))
        same_width("GaussianStream", len(self._mean), x.shape[1])
        while len(x):
            part, x = x[: BLOCK - self._waiting], x[BLOCK - self._waiting :]
            self._rows[self._waiting : self._waiting + len(part)] = part
            self._waiting += len(part)
            if self._waiting == BLOCK:
                self._mean, self._scatter = self._merged()
                self._done, self._waiting = self._done + BLOCK, 0

    def fit(self) -> FeatureStatistics:
        """Statistics of all batches so far; more may follow.

        Raises:
          ValueError: fewer than 2 samples.
        """
        if self.count < FEWEST:
            raise ValueError(f"GaussianStream: found {self.count} samples, wanted {FEWEST} or more")
        mean, scatter = self._merged()
        return FeatureStatistics(mean, scatter / (self.count - 1))

    def _merged(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and scatter (2) with the rows that wait."""
        if not self._waiting:
            return self._mean, self._scatter
        rows = self._rows[: self._waiting]
        mean = rows.mean(axis=0)
        centred, away = rows - mean[None], mean - self._mean
        share = self._waiting / self.count
        scatter = centred.T @ centred + self._scatter
        scatter += np.outer(away, away * (self._done * share))
        return self._mean + away * share, scatter


def fit_gaussian(features: Features) -> FeatureStatistics:
    """Mean and unbiased covariance of features [N,D], in float64; see `GaussianStream` for batches.

    Raises:
      ValueError: fewer than 2 samples, no table of numbers, or numbers that are not finite.
    """
    stream = GaussianStream()
    stream.add(checked("fit_gaussian", features, FEWEST))
    return stream.fit()


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
