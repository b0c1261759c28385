"""Which steps to compute, given what it does to the result to leave others out (`influence`).

A list of computed steps is a path: from a computed step to the next, over a gap of steps that
reuse what the first of them made. If every gap has a cost of its own, the best path is found by
dynamic programming: the one whose costs have the least sum, or, in the minimax form of LeMiCa
(arXiv 2511.00090), the smallest largest, then the smallest second largest, and so on.

But values that are reused lag behind, and err alike at all steps: what gaps do to the result adds
up before it is squared. So the cheapest path is only where `refined` begins, which moves computed
steps, one at a time, while the square of the sum falls.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

GapCosts = Float[np.ndarray, "S G"]
"""Of a computed step, and how many steps behind it reuse what it made: 0 to G - 1."""

Effects = Float[np.ndarray, "S K n"]
FullSteps = tuple[int, ...]


def gap_costs(effects: Effects) -> GapCosts:
    """What a gap does to the result, squared, on average over samples.

    Args:
      effects: of a computed step i, of d = 1..K behind it, and of each of n directions of the
        result: how far the result moves in that direction, to first order, where step i + d reuses
        what step i made (`influence`). Those of a gap add up before they are squared: a value that
        is held too long errs in one direction for as long.
    """
    return np.mean(np.square(_moved(effects)), axis=-1)


def cheapest(costs: GapCosts, full: int) -> FullSteps:
    """The list of so many computed steps, the first among them, whose gaps cost least in all.

    Raises:
      ValueError: so many steps cannot cover all, as no gap is longer than G - 1.
    """
    return _path(costs, full, 0.0, lambda cost, gap: cost + gap)


def minimax(costs: GapCosts, full: int) -> FullSteps:
    """The list of so many computed steps whose dearest gap costs least, then its second, ...

    Raises:
      ValueError: see `cheapest`.
    """
    return _path(costs, full, (), lambda cost, gap: tuple(sorted((*cost, gap), reverse=True)))


def _path(costs: GapCosts, full: int, nothing: Any, add: Callable[[Any, float], Any]) -> FullSteps:
    """Dynamic programming over the last computed step: step k is the m-th, best of all i < k.

    Both ways to add keep an order between two lists when the same gap is added to both, so the best
    list up to a step is a part of the best whole.
    """
    steps, gaps = costs.shape
    if not 1 <= full <= steps or full * gaps < steps:
        least = -(-steps // gaps)
        raise ValueError(
            f"calibration: found {full} computed of {steps} steps and gaps of at most {gaps - 1}, "
            f"wanted {least} to {steps}"
        )
    best: dict[int, tuple[Any, FullSteps]] = {0: (nothing, (0,))}
    for _ in range(1, full):
        longer: dict[int, tuple[Any, FullSteps]] = {}
        for last, (cost, path) in best.items():
            for step in range(last + 1, min(last + gaps, steps - 1) + 1):
                one = add(cost, float(costs[last, step - last - 1])), (*path, step)
                if step not in longer or one < longer[step]:
                    longer[step] = one
        best = longer
    ends = [
        (add(cost, float(costs[last, steps - 1 - last])), path)
        for last, (cost, path) in best.items()
        if steps - 1 - last < gaps
    ]
    return min(ends)[1]


def error_of(effects: Effects, full: Sequence[int]) -> float:
    """The squared distance by which a list moves the result, to first order, the mean of samples.

    Args:
      effects: see `gap_costs`.
      full: computed steps, ascending, the first among them.

    Raises:
      ValueError: a gap is longer than K.
    """
    moved = _moved(effects)
    longest = max(end - start for start, end in _gaps(full, len(moved)))
    if longest > moved.shape[1]:
        raise ValueError(
            f"calibration: found a gap of {longest - 1} steps, wanted at most {effects.shape[1]}"
        )
    whole = sum(moved[start, end - start - 1] for start, end in _gaps(full, len(moved)))
    return float(np.mean(np.square(whole)))


def refined(effects: Effects, full: Sequence[int]) -> FullSteps:
    """The list behind the best of all moves of one computed step, and again, until none helps.

    Args:
      effects: see `gap_costs`.
      full: computed steps, ascending, the first among them, which stays.

    Raises:
      ValueError: a gap is longer than K.
    """
    moved, best, error = _moved(effects), tuple(full), error_of(effects, full)
    while True:
        moves = [_best_move(moved, best, leaves) for leaves in range(1, len(best))]
        found, other = min(moves, default=(error, best))
        if not found < error:
            return best
        error, best = found, other


def _best_move(
    moved: Float[np.ndarray, "S G n"], full: FullSteps, leaves: int
) -> tuple[float, FullSteps]:
    """The best place for the computed step of that number, and the error with it there."""
    steps, limit = moved.shape[:2]
    kept = (*full[:leaves], *full[leaves + 1 :])
    gaps, opened = _gaps(kept, steps), leaves - 1
    wide = gaps[opened][1] - gaps[opened][0] > limit  # then it must be parted again
    parts = [
        0.0 * moved[start, 0] if wide and gap == opened else moved[start, end - start - 1]
        for gap, (start, end) in enumerate(gaps)
    ]
    whole, errors = sum(parts), np.full(steps, np.inf)
    for gap in [opened] if wide else range(len(gaps)):
        start, end = gaps[gap]
        for step in range(max(start + 1, end - limit), min(end - 1, start + limit) + 1):
            parted = moved[start, step - start - 1] + moved[step, end - step - 1]
            errors[step] = np.mean(np.square(whole - parts[gap] + parted))
    step = int(np.argmin(errors))
    return float(errors[step]), tuple(sorted((*kept, step)))


def _gaps(full: Sequence[int], steps: int) -> list[tuple[int, int]]:
    """Each computed step, and the next or the end."""
    return list(zip(full, (*full[1:], steps), strict=True))


def _moved(effects: Effects) -> Float[np.ndarray, "S G n"]:
    """How far the result moves over a gap of 0 to K steps behind each."""
    sums = np.cumsum(effects.astype(np.float64), axis=1)
    return np.concatenate([np.zeros_like(sums[:, :1]), sums], axis=1)
