"""Mean and covariance of features, however many.

They are gathered block by block (Chan, Golub & LeVeque 1979, eq. 2.1): n rows of
mean μ and scatter S = Σ (x - μ)(x - μ)ᵀ, and m rows of mean μ + δ and scatter S', have together

(1)  mean μ + δ m / (n + m),   scatter S + S' + δ δᵀ n m / (n + m),   C = scatter / (rows - 1)
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
    """Mean and unbiased covariance (1) of features that come in batches, in float64.

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
        """Mean and scatter (1) with the rows that wait."""
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
