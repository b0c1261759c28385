"""The lowest threshold that saves what is wanted: by arithmetic, or by trial on samples."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Key

from skipdit_jax.pipeline import Sampler
from skipdit_jax.typing import Params

RANGE = 1e6  # the largest threshold that is looked at over the smallest
HALVINGS = 40  # of that range, where one costs nothing: what is left is below rounding
TRIALS = 12  # where one draws samples: the threshold is off by 0.3 % at most
MOST = 32.0  # relative changes that methods compare are far below


def check_speedup(wanted: float, most: float) -> None:
    """Raises ValueError for a speedup below 1, or above what a method reaches."""
    if not 1 <= wanted <= most:
        raise ValueError(f"calibration: found a speedup of {wanted:g}, wanted 1 to {most:.3g}")


def lowest(
    saved: Callable[[float], float], wanted: float, most: float, halvings: int = HALVINGS
) -> float:
    """The lowest threshold, by bisection of its logarithm.

    Args:
      saved: threshold -> FLOPs without cache over those spent; does not fall.
      wanted: at least so much is to be saved.
      most: a threshold behind which nothing more is.
      halvings: how often `saved` is asked.

    Raises:
      ValueError: none saves as much.
    """
    check_speedup(wanted, saved(most))
    low, high = most / RANGE, most
    for _ in range(halvings):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if saved(middle) < wanted else (low, middle)
    return high


def by_trial(
    sampler_at: Callable[[float], Sampler],
    params: Params,
    keys: Key[Array, "B"],
    labels: Any,
    wanted: float,
) -> tuple[float, float]:
    """The lowest threshold of a method that decides, and what it saves.

    What a method saves depends on what it reused before: only a run tells, so a batch is drawn with
    one threshold after the other. A threshold is data: all share one program.

    Args:
      sampler_at: threshold -> the sampler with it, which gives details.
      params: weights.
      keys: one per sample, [B].
      labels: one per sample, or whatever the model is conditioned on.
      wanted: FLOPs without cache over those spent, at least.

    Raises:
      ValueError: no threshold saves as much.
    """

    def saved(threshold: float) -> float:
        sampler = sampler_at(threshold)
        drawn: Any = sampler(params, keys, labels)
        return sampler.ceiling_of(len(keys), [drawn.kinds])

    found = lowest(saved, wanted, MOST, TRIALS)
    return found, saved(found)
