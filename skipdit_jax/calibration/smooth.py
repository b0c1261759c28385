"""SmoothCache's schedules from measured errors (arXiv 2411.10510, section 3.2)."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from skipdit_jax.caching import notation
from skipdit_jax.caching.plan import CachePolicy
from skipdit_jax.calibration.drift import Drift
from skipdit_jax.calibration.thresholds import lowest

LAGS = 3  # K of the authors
Masks = dict[str, list[int]]


def kind_errors(drift: Drift) -> dict[str, Float[np.ndarray, "S K"]]:
    """For each kind of sub-layer the mean over its layers of their errors; see `Drift.errors`."""
    kinds: dict[str, list[np.ndarray]] = {}
    for site in drift.part:
        kinds.setdefault(site.rpartition("-")[0], []).append(drift.errors(site))
    return {kind: np.mean(errors, axis=0) for kind, errors in kinds.items()}


def schedule(errors: Float[np.ndarray, "S K"], threshold: float) -> list[int]:
    """For each step 1 if it is computed, 0 if it is reused.

    From a computed step i on, as many steps are reused as the largest lag d has whose error is at
    most the threshold; step i + d + 1 is the next computed one. The last step is computed too.

    Args:
      errors: e[i, d - 1]; NaN where there is no step i + d.
      threshold: of the authors, alpha.
    """
    steps = len(errors)
    computed, step = np.zeros(steps, int), 0
    while step < steps:
        computed[step] = 1
        fitting = np.flatnonzero(errors[step] <= threshold)
        step += 1 + (int(fitting[-1]) + 1 if len(fitting) else 0)
    computed[-1] = 1
    return computed.tolist()


def masks(errors: dict[str, Float[np.ndarray, "S K"]], threshold: float) -> Masks:
    """The schedule of each kind, as `SmoothCache.of` takes it and the authors' JSON has it."""
    return {kind: schedule(found, threshold) for kind, found in errors.items()}


def policy_of(masks: Masks) -> CachePolicy:
    """SmoothCache with these schedules."""
    pairs = tuple((kind, tuple(steps)) for kind, steps in masks.items())
    policy = notation.read(f"smooth(masks={pairs!r})")
    assert policy is not None
    return policy


def threshold_for(
    errors: dict[str, Float[np.ndarray, "S K"]], saved: Callable[[Masks], float], wanted: float
) -> float:
    """The lowest threshold whose schedules save as much as is wanted.

    Args:
      errors: of `kind_errors`.
      saved: what a schedule saves: FLOPs without cache over its own.
      wanted: at least so much.

    Raises:
      ValueError: none does.
    """
    most = float(max(np.nanmax(found) for found in errors.values()))
    return lowest(lambda threshold: saved(masks(errors, threshold)), wanted, most)
