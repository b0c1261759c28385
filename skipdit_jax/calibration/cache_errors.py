"""What a cache's error was foretold to be, beside what it is.

Foretold is the first order of `influence`: derivatives of a run without cache, and the values that
it reuses. Measured is the distance of samples with the cache to those without. Where features are
smooth the two agree; how well they do is what a search for steps (`full_steps`) stands on.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from skipdit_jax.caching.plan import CachePolicy
from skipdit_jax.calibration.full_steps import (
    Batch,
    lags_for,
    measure,
    span_of,
    with_full_steps,
)
from skipdit_jax.calibration.search import FullSteps, error_of
from skipdit_jax.pipeline import Sampler
from skipdit_jax.typing import Params

FEWEST = 2  # lists that have a correlation


class CacheErrors(NamedTuple):
    """Root mean squares over the numbers of all samples, float64 [n].

    Attributes:
      lists: computed steps.
      predicted: to first order.
      measured: by sampling.
    """

    lists: tuple[FullSteps, ...]
    predicted: Float[np.ndarray, "n"]
    measured: Float[np.ndarray, "n"]

    @property
    def correlation(self) -> float | None:
        """Pearson's; None of fewer than two lists, or of lists that err alike."""
        spread = [float(np.ptp(one)) for one in (self.predicted, self.measured) if len(one)]
        if len(self.lists) < FEWEST or not all(spread):
            return None
        return float(np.corrcoef(self.predicted, self.measured)[0, 1])

    @property
    def ratio(self) -> float | None:
        """The median of predicted / measured, which a correlation hides; None where none erred."""
        erred = self.measured > 0
        if not erred.any():
            return None
        return float(np.median(self.predicted[erred] / self.measured[erred]))


def lists_of(steps: int, every: Sequence[int], drawn: int, seed: int) -> tuple[FullSteps, ...]:
    """Every N-th step for each N, and as many at random in turn.

    Args:
      steps: S.
      every: N, 2 or more.
      drawn: how many lists at random; their gaps are no longer than a search would take
        (`lags_for`).
      seed: of these.

    Raises:
      ValueError: an N that leaves nothing to reuse or nothing to compare, or none.
    """
    wrong = [n for n in every if not 2 <= n <= steps]
    if wrong or not every:
        raise ValueError(f"calibration: found every {wrong or 'none'}, wanted 2 to {steps}")
    even = [tuple(range(0, steps, n)) for n in every]
    rng = np.random.default_rng(seed)
    return (*even, *(_drawn(rng, steps, len(even[i % len(even)])) for i in range(drawn)))


def _drawn(rng: np.random.Generator, steps: int, full: int) -> FullSteps:
    longest = lags_for(steps, full)
    while True:  # evenly spread lists are among those that may be drawn, so it ends
        rest = 1 + rng.choice(steps - 1, full - 1, replace=False)
        found = (0, *sorted(rest.tolist()))
        if _longest(found, steps) <= longest:
            return found


def _longest(full: FullSteps, steps: int) -> int:
    return max(end - start - 1 for start, end in pairwise((*full, steps)))


def measure_cache_errors(
    uncached: Sampler,
    cached: Callable[[CachePolicy], Sampler],
    policy: CachePolicy,
    params: Params,
    batches: Sequence[Batch],
    lists: Sequence[FullSteps],
) -> CacheErrors:
    """Errors of a method with each list of computed steps.

    Args:
      uncached: the sampler without cache.
      cached: that with another policy, alike in all else.
      policy: of the method; it reuses one range of stages.
      params: weights.
      batches: of equal sizes, each (keys [B], what they are conditioned on).
      lists: computed steps, the first among them.

    Raises:
      ValueError: the first sampler caches, or the method reuses another thing (`span_of`).
    """
    steps, span = len(uncached.inputs.t), span_of(cached(policy))
    lags = max(_longest(full, steps) for full in lists)
    (effects,) = measure(uncached, params, batches, spans=[span], lags=lags)
    samplers = [cached(with_full_steps(policy, full)) for full in lists]
    squares = [_squares(uncached, samplers, params, batch) for batch in batches]
    size = math.prod(uncached.program.model.sample_shape)
    foretold = np.array([error_of(effects, full) for full in lists], np.float64)
    return CacheErrors(
        tuple(lists), np.sqrt(foretold / size), np.sqrt(np.mean(squares, axis=0, dtype=np.float64))
    )


def _squares(
    uncached: Sampler, samplers: Sequence[Sampler], params: Params, batch: Batch
) -> list[float]:
    """Of each cache the mean squared difference to no cache."""
    wanted = np.asarray(uncached(params, *batch), np.float64)
    found = (np.asarray(sampler(params, *batch), np.float64) for sampler in samplers)
    return [float(np.mean(np.square(one - wanted))) for one in found]
