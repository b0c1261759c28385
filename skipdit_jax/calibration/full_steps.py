"""The best list of computed steps of a method that reuses one range of stages, for a budget."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from skipdit_jax.caching import notation
from skipdit_jax.caching.plan import CachePolicy, Span
from skipdit_jax.caching.summary import CacheSummary
from skipdit_jax.calibration.influence import measure_effects
from skipdit_jax.calibration.search import (
    FullSteps,
    cheapest,
    error_of,
    gap_costs,
    minimax,
    refined,
)
from skipdit_jax.calibration.thresholds import check_speedup
from skipdit_jax.pipeline import Sampler
from skipdit_jax.typing import Params

SUM, MINIMAX, EVEN = "sum", "minimax", "even"
OBJECTIVES = (SUM, MINIMAX, EVEN)
GAPS = 3  # how many times as long as an even one a gap may be
SHORTEST = 8  # steps that are looked at behind each, however few an even gap has

Batch = tuple[Array, Any]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A list of computed steps, and what it was told to cost.

    Attributes:
      full: computed steps.
      error: squared distance of a result to that without cache, foretold to first order.
      even: the error of as many computed steps at even distances.
    """

    full: FullSteps
    error: float
    even: float


def span_of(sampler: Sampler) -> Span:
    """The range of stages that a sampler's cache reuses.

    Raises:
      ValueError: it reuses none, or more than one, or forecasts it.
    """
    sockets = None if sampler.plan is None else sampler.plan.sockets
    alone = sockets is not None and sockets._replace(trunk=None) == type(sockets)()
    trunk = sockets.trunk if sockets is not None and alone else None
    if trunk is None or len(trunk.spans) != 1 or trunk.ring.slots > 1 or trunk.spans[0].skips:
        raise ValueError(
            "calibration: lists of computed steps are of methods that reuse one range of stages, "
            "wanted skip-cache or block-cache"
        )
    return trunk.spans[0]


def computed_steps(summary: CacheSummary, speedup: float) -> int:
    """How many steps may be computed where the FLOPs are to be so many times fewer.

    Raises:
      ValueError: the method cannot save as much.
    """
    spared = summary.full_flops - summary.cached_flops
    least = summary.flops_uncached - (summary.steps - 1) * spared
    check_speedup(speedup, summary.flops_uncached / least)
    if not spared:
        return summary.steps
    left = summary.flops_uncached / speedup - summary.steps * summary.cached_flops
    return max(1, int(left / spared + 1e-9))  # of rounding


def lags_for(steps: int, full: int) -> int:
    """How many steps behind a computed one may have to reuse it."""
    even = -(-steps // full)
    return min(max(SHORTEST, GAPS * even), steps - 1)


def measure(
    sampler: Sampler, params: Params, batches: Iterable[Batch], *, spans: Sequence[Span], lags: int
) -> Float[np.ndarray, "spans S K n"]:
    """Effects of reused values on samples, a batch at a time; see `measure_effects`.

    Args:
      sampler: without cache.
      params: weights.
      batches: of equal sizes, each (keys [B], what they are conditioned on); see `batches_of`.
      spans: whose values are reused, each by itself.
      lags: K.

    Raises:
      ValueError: the sampler caches.
    """
    found = [
        measure_effects(sampler, params, keys, given, spans=spans, lags=lags, seed=number)
        for number, (keys, given) in enumerate(batches)
    ]
    return np.concatenate(found, axis=-1)


def batches_of(keys: Key[Array, "n"], labels: Any, batch: int) -> Iterator[Batch]:
    """Keys and labels of samples, so many at a time.

    Raises:
      ValueError: the batch does not divide the samples.
    """
    if len(keys) % batch:
        raise ValueError(f"calibration: found {len(keys)} samples, wanted a multiple of {batch}")
    for first in range(0, len(keys), batch):
        rows = slice(first, first + batch)
        yield keys[rows], jax.tree.map(lambda leaf: leaf[rows], labels)  # noqa: B023


def choose_full_steps(
    effects: Float[np.ndarray, "S K n"], full: int, objective: str = SUM
) -> Choice:
    """The best list of so many computed steps.

    Args:
      effects: of `measure`.
      full: how many.
      objective: "sum", what all gaps do to the result together; "minimax", the dearest gap alone
        (LeMiCa); "even", every N-th step, of the smallest N that has no more.

    Raises:
      ValueError: another objective, or too few steps for gaps as long as were measured.
    """
    if objective not in OBJECTIVES:
        wanted = " or ".join(OBJECTIVES)
        raise ValueError(f"calibration: objective is {objective!r}, wanted {wanted}")
    costs, even = gap_costs(effects), evenly(len(effects), full)
    error = partial(error_of, effects)
    if objective == EVEN:
        best = tuple(range(0, len(effects), -(-len(effects) // full)))
    elif objective == MINIMAX:
        best = minimax(costs, full)
    else:
        starts = (cheapest(costs, full), even)
        best = min((refined(effects, start) for start in starts), key=error)
    return Choice(full=best, error=error(best), even=error(even))


def evenly(steps: int, full: int) -> FullSteps:
    """As many computed steps, the first among them, as far apart as can be."""
    return tuple(sorted({int(i * steps / full) for i in range(full)}))


def places_of(policy: CachePolicy, stages: int, skips: int) -> list[CachePolicy]:
    """A policy at each of its places: every branch; or as many blocks in front as behind.

    Args:
      policy: of a method that reuses one range of stages.
      stages: U of the model.
      skips: K of it.
    """
    if hasattr(policy, "branch"):
        return [notation.with_fields(policy, branch=k) for k in range(1, skips)]
    halves = range(1, (stages + 1) // 2)
    return [notation.with_fields(policy, front=k, back=k) for k in halves]


def with_full_steps(policy: CachePolicy, full: FullSteps) -> CachePolicy:
    """A policy of the same method and range, with a list in place of an interval.

    Raises:
      ValueError: its method takes none.
    """
    kept = {"branch", "front", "back", "forecast"}
    fields = {name: getattr(policy, name) for name in kept if hasattr(policy, name)}
    return notation.of_same_method(policy, **fields, full=full)
