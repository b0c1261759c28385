"""How a reused value follows from the values of the past: weights made on the host in float64.

A forecast that is linear in the computed values is a ring of the last R of them and one row of
weights per step: nothing is differenced on the device, and rounding does not grow.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from skipdit_jax.caching.plan import Ring, RingRows

Computed = Bool[np.ndarray, "S"]


class Forecast(NamedTuple):
    """What is kept, and the numbers of every step.

    Attributes:
      ring: slots.
      rows: None for one slot, whose value is reused as it is.
    """

    ring: Ring = Ring()
    rows: RingRows | None = None


Forecaster = Callable[[Computed], Forecast]
"""Which steps are computed -> the forecast of the others."""


def hold(computed: Computed) -> Forecast:
    """The last computed value."""
    return Forecast()


def taylor(order: int) -> Forecaster:
    """Taylor's polynomial from backward differences (TaylorSeer, arXiv 2503.06923, eq. 5 to 8).

    With the computed steps k_0 < k_1 < ... and their values Y_k,

        (1)  D^0(k_j) = Y_(k_j),   D^(i+1)(k_j) = (D^i(k_j) - D^i(k_(j-1))) / (k_j - k_(j-1))
        (2)  Y(s) = sum_(i <= O) D^i(k_j) (s - k_j)^i / i!    for k_j < s < k_(j+1)

    Each difference is over the last spacing, and one more of them exists after each computed step.
    (2) is linear in the last O + 1 values. Order 0 is `hold`.
    """

    def forecast(computed: Computed) -> Forecast:
        if order == 0:
            return hold(computed)
        write, weights = taylor_weights(computed, order)
        return Forecast(Ring(order + 1), RingRows(write, weights.astype(np.float32)))

    return forecast


def taylor_weights(
    computed: Computed, order: int
) -> tuple[Int[np.ndarray, "S"], Float[np.ndarray, "S R"]]:
    """The slot that each step writes, and of each forecast the weights of the slots, float64."""
    slots, count = order + 1, int(computed.sum())
    write, weights = _blank(computed, slots)
    differences: list[np.ndarray] = []  # of values: one row of weights each
    done, last = 0, 0
    for step, now in enumerate(computed):
        if now:
            new = [np.eye(1, count, done)[0]]
            for older in differences[:order]:
                new.append((new[-1] - older) / (step - last))
            differences, last, done = new, step, done + 1
        else:
            terms = enumerate(differences)
            row = sum(d * (step - last) ** i / math.factorial(i) for i, d in terms)
            for value in range(max(0, done - slots), done):
                weights[step, value % slots] = row[value]
        write[step] = (done - 1) % slots
    return write, weights


FOCA_KEPT = 2  # computed values that FoCa looks at
FOCA_REACH = 3  # steps that a forecast trusts its slope

Weights = Float[np.ndarray, "R"]
"""Of the slots of a ring, in a value."""


def foca(computed: Computed) -> Forecast:
    """FoCa (arXiv 2508.16211), in the form of cache-dit.

    A0, A1 are the last two computed values, K0, K1 the last two of whatever kind, e the steps since
    A1:

        (1)  g = (A1 - A0) + (K1 - K0)
        (2)  Y = A1 + e/2 g  for e <= 3,  else  A1 + w 3/2 g  with w = 3/e

    and Y is the next K1. With fewer than two computed values, Y = A1.
    """

    def value(full: list[Weights], last: list[Weights], since: int) -> Weights:
        if len(full) < FOCA_KEPT:
            return full[-1]
        slope = since / 2 if since <= FOCA_REACH else FOCA_REACH / since * 1.5
        return full[1] + slope * ((full[1] - full[0]) + (last[1] - last[0]))

    return recursive(computed, FOCA_KEPT, value)


def recursive(
    computed: Computed,
    kept: int,
    value: Callable[[list[Weights], list[Weights], int], Weights],
) -> Forecast:
    """A forecast that is itself one of the values from which the next follow.

    Between two computed steps all forecasts are sums of the computed values and of the last value
    before the newest of these: it alone is folded (`Ring`), and nothing is written where a step
    reuses.

    Args:
      computed: steps.
      kept: how many computed values it looks at.
      value: (the last computed values, at most `kept`; the last two of whatever kind; steps since
        the last computed) -> a forecast. The newest value stands last.
    """
    write, weights = _blank(computed, kept + 1)
    slots = np.eye(kept + 1)
    full: list[Weights] = []
    last: list[Weights] = []
    done = since = 0
    for step, now in enumerate(computed):
        if now:
            if last:
                weights[step] = last[-1]
            full = [slots[i % kept] for i in range(max(0, done + 1 - kept), done + 1)]
            last = [*([slots[-1]] if last else []), full[-1]]
            done, since = done + 1, 0
        else:
            since += 1
            weights[step] = value(full, last, since)
            last = [last[-1], weights[step]]
        write[step] = (done - 1) % kept
    ring = Ring(kept + 1, folds=True)
    return Forecast(ring, RingRows(write, weights.astype(np.float32)))


def by_name(name: str) -> Forecaster:
    """Reads "hold", "foca", or "taylor2" (of order 2).

    Raises:
      ValueError: another name.
    """
    if name == "hold":
        return hold
    if name == "foca":
        return foca
    order = name.removeprefix("taylor")
    if name.startswith("taylor") and order.isdecimal() and int(order) <= MAX_ORDER:
        return taylor(int(order))
    raise ValueError(
        f"forecast: found {name!r}, wanted hold, foca, or taylor0 to taylor{MAX_ORDER}"
    )


MAX_ORDER = 4  # the highest that was published: docs/notes.md, TaylorSeer as published


def _blank(computed: Computed, slots: int) -> tuple[np.ndarray, np.ndarray]:
    steps = len(computed)
    return np.zeros(steps, np.int32), np.zeros((steps, slots))
