"""The rule that most methods share: of every N steps one is computed, between two timesteps."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from skipdit_jax.typing import StepFlags

ALWAYS = 1000  # `start` above every timestep (they count as of 1000): never forced full
NEVER = -1  # `stop` below every timestep: never closed


def interval_reuse(timesteps: Int[np.ndarray, "S"], every: int, start: int, stop: int) -> StepFlags:
    """True where a step reuses what an earlier one computed. Entry 0 is False.

    With model timesteps tau[0..S-1] in sampling order, step i reuses if

        (1)  i mod N != 0   and   tau[i] < start   and   (i == 0 or tau[i-1] > stop)

    The original of Skip-Cache (arXiv 2411.17616) keeps a counter inside the model; (1) is that
    counter written as a function. Step i is therefore counted from the first call, forced full
    steps included, and the first step at or below `stop` may still be a cached one: it is the step
    BEFORE it that closes the cache.
    """
    tau = np.asarray(timesteps)
    before = np.concatenate([[np.iinfo(np.int64).max], tau[:-1]])
    every = min(every, max(len(tau), 1))  # a larger one never comes round, and may fit no integer
    return (np.arange(len(tau)) % every != 0) & (tau < start) & (before > stop)


def listed_reuse(name: str, full: Sequence[int], steps: int) -> StepFlags:
    """True but at the steps of a list.

    Raises:
      ValueError: beginning with the name of a method, for steps that the run does not have.
    """
    if max(full) >= steps:
        raise ValueError(f"{name}: found step {max(full)} in full, wanted steps below {steps}")
    return ~np.isin(np.arange(steps), full)


def check_listed(name: str, full: Sequence[int], timed: bool) -> None:
    """Raises ValueError, beginning with the name of a method, for a list that is none.

    Args:
      name: of the method.
      full: the steps that are computed; empty for none listed.
      timed: whether an interval stands beside it.
    """
    if full and min(full) != 0:
        raise ValueError(f"{name}: full begins with {min(full)}, wanted step 0 in it")
    if full and timed:
        raise ValueError(f"{name}: found an interval beside a list of full steps, wanted one")


def check_interval(name: str, every: int, start: int, stop: int) -> None:
    """Raises ValueError, beginning with the name of a method, for an interval that is none."""
    if every < 1:
        raise ValueError(f"{name}: N is {every}, wanted 1 or more (1 computes every step)")
    if stop >= start:
        raise ValueError(f"{name}: stop is {stop}, wanted less than start, which is {start}")
