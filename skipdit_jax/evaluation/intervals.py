"""How far a number would move if its samples were drawn again: the bootstrap (Efron 1979).

A resample holds N of the N samples, drawn with repetition. With s the standard deviation of the
number over R resamples,

(1)  interval = number ± q s,   q of Student's distribution of R - 1 degrees of freedom

and not the quantiles of the resamples: a Fréchet distance is larger on a resample, which has fewer
different samples, so that these may lie beside the number that they are meant to surround. (1)
says how sure the number is *at this N*, not how far it is from that of infinitely many samples.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

FRECHET_RESAMPLES = 20
"""Enough for Fréchet distances: s is known to 16 %, and q is 7 % above that of many resamples.

With `distances.frechet_to` one costs little more than gathering the statistics anew: docs/notes.md,
Measures of samples.
"""
FEWEST = 2  # resamples that have a deviation


class Interval(NamedTuple):
    """An interval (1) and the standard deviation s, in units of the number."""

    low: float
    high: float
    deviation: float


def resampled(
    statistic: Callable[[np.ndarray], float],
    samples: Shaped[np.ndarray, "N *rest"],
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The interval (1) of a number that is computed from samples.

    Only these samples are drawn again, not what the number compares them with: it is that of the
    model at a given reference. For measures of pictures one by one (PSNR, SSIM, LPIPS) and for
    precision and recall give the values or flags of each and `np.mean`: neighbours of a resample
    would be its own repetitions.

    Args:
      statistic: [N,...] -> the number.
      samples: features or values, one row each, [N,...].
      resamples: R.
      level: share of intervals that hold the mean number of such sets.
      seed: of numpy's generator.

    Raises:
      ValueError: fewer than 2 samples or resamples, a level outside of 0 and 1, or a number that
        is not finite.

    Examples:
      >>> low, high, deviation = resampled(np.mean, np.array([0.0, 1.0] * 50))
      >>> round(deviation, 2)
      0.05
    """
    from scipy import stats  # heavy, and every command line imports this file

    if min(len(samples), resamples) < FEWEST:
        raise ValueError(
            f"resampled: found {len(samples)} samples, {resamples} resamples, wanted {FEWEST} or "
            "more of both"
        )
    if not 0 < level < 1:
        raise ValueError(f"resampled: found level {level}, wanted one between 0 and 1")
    rng, count = np.random.default_rng(seed), len(samples)
    found = [float(statistic(samples[rng.integers(count, size=count)])) for _ in range(resamples)]
    number, deviation = float(statistic(samples)), float(np.std(found, ddof=1))
    if not math.isfinite(number + deviation):
        raise ValueError(f"resampled: found {number} with deviation {deviation}, wanted numbers")
    reach = float(stats.t.ppf((1 + level) / 2, resamples - 1)) * deviation
    return Interval(number - reach, number + reach, deviation)
