"""What follows from a number: computed or reused (`decisions.Rule`).

A step that a rule may not decide is as the plan says; of one that it may, but where a limit is met,
no number is looked at and everything is computed.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from skipdit_jax.caching.decisions import DecisionRows, Verdict
from skipdit_jax.typing import Flag, Index, Scalar

NO_LIMIT = np.iinfo(np.int32).max
IDENTITY = (0.0, 0.0, 0.0, 1.0, 0.0)
"""The polynomial of degree 4 that is its argument, highest power first."""

Polynomial = tuple[float | int, ...]
Count = Int[Array, ""]
OfLayers = Float[Array, "layers"]


class AccumulateRow(NamedTuple):
    """Numbers of `Accumulate`, of each step.

    Attributes:
      threshold: float32, of the sum.
      polynomial: float32 [5], of the number, highest power first.
      most: int32, steps reused in a row.
    """

    threshold: Float[np.ndarray, "S"]
    polynomial: Float[np.ndarray, "S 5"]
    most: Int[np.ndarray, "S"]


def accumulate(
    steps: int, threshold: float | int, polynomial: Polynomial = IDENTITY, most: int = NO_LIMIT
) -> AccumulateRow:
    """The same numbers for each of so many steps; see `AccumulateRow`."""
    return AccumulateRow(
        of_all(steps, np.float32(threshold)),
        of_all(steps, np.asarray(polynomial, np.float32)),
        of_all(steps, np.int32(most)),
    )


def of_all(steps: int, value: Any) -> np.ndarray:
    """A value [...] for each of so many steps, [S,...]."""
    return np.repeat(np.asarray(value)[None], steps, axis=0)


class Accumulated(NamedTuple):
    """What `Accumulate` keeps.

    Attributes:
      total: of the numbers since the last computed step.
      streak: steps since.
    """

    total: Scalar
    streak: Count


@dataclass(frozen=True)
class Accumulate:
    """Reuses while the sum of p(number) since the last computed step is below a threshold."""

    def start(self) -> Accumulated:
        """Nothing is summed."""
        return Accumulated(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32))

    def judge(self, own: Accumulated, number: Scalar, row: DecisionRows, planned: Index) -> Verdict:
        """See `decisions.Rule`."""
        numbers: AccumulateRow = row.rule
        looked = row.free & (own.streak < numbers.most)
        total = own.total + jnp.polyval(numbers.polynomial, number)
        computes = _decided(looked, total < numbers.threshold, row, planned)
        behind = jnp.where(looked, total, own.total)
        own = Accumulated(jnp.where(computes, 0.0, behind), jnp.where(computes, 0, own.streak + 1))
        return Verdict(computes, jnp.where(looked, total, 0.0), own)

    def learn(self, found: Verdict, number: Any, row: DecisionRows) -> Verdict:
        """Nothing more."""
        return found


class BelowRow(NamedTuple):
    """Numbers of `Below`, of each step.

    Attributes:
      threshold: float32, of the number.
      limit: float32, of the sum of all numbers of a run.
      most: int32, steps reused in a row.
      most_in_all: int32, steps reused in a run.
    """

    threshold: Float[np.ndarray, "S"]
    limit: Float[np.ndarray, "S"]
    most: Int[np.ndarray, "S"]
    most_in_all: Int[np.ndarray, "S"]


def below(
    steps: int,
    threshold: float | int,
    limit: float | int = np.inf,
    most: int = NO_LIMIT,
    most_in_all: int = NO_LIMIT,
) -> BelowRow:
    """The same numbers for each of so many steps; see `BelowRow`."""
    return BelowRow(
        of_all(steps, np.float32(threshold)),
        of_all(steps, np.float32(limit)),
        of_all(steps, np.int32(most)),
        of_all(steps, np.int32(most_in_all)),
    )


class Counted(NamedTuple):
    """What `Below` keeps.

    Attributes:
      total: of all numbers that were looked at.
      streak: steps reused since the last computed one.
      reused: steps reused.
    """

    total: Scalar
    streak: Count
    reused: Count


@dataclass(frozen=True)
class Below:
    """Reuses where the number itself is below a threshold."""

    def start(self) -> Counted:
        """Nothing is counted."""
        none = jnp.zeros((), jnp.int32)
        return Counted(jnp.zeros((), jnp.float32), none, none)

    def judge(self, own: Counted, number: Scalar, row: DecisionRows, planned: Index) -> Verdict:
        """See `decisions.Rule`."""
        numbers: BelowRow = row.rule
        within = (own.streak < numbers.most) & (own.reused < numbers.most_in_all)
        looked = row.free & within & (own.total < numbers.limit)
        computes = _decided(looked, number < numbers.threshold, row, planned)
        compared = jnp.where(looked, number, 0.0)
        own = Counted(
            own.total + compared,
            jnp.where(computes, 0, own.streak + 1),
            own.reused + jnp.where(computes, 0, 1),
        )
        return Verdict(computes, compared, own)

    def learn(self, found: Verdict, number: Any, row: DecisionRows) -> Verdict:
        """Nothing more."""
        return found


def _decided(looked: Any, reuses: Any, row: DecisionRows, planned: Index) -> Flag:
    """Whether a step is computed; a number that is none reuses nothing."""
    return jnp.where(looked, ~reuses, row.free | (planned > 0))


class CodebookRow(NamedTuple):
    """Numbers of `Codebook`, of each step.

    Attributes:
      thresholds: float32 [n], ascending; -inf is never met.
      rates: int32 [n + 1], steps to the next computed one if a change is below each threshold, and
        if it is below none.
      window: bool, where motion counts.
      motion: float32 [4], h0, h1, h2 and how much a change of motion weighs.
    """

    thresholds: Float[np.ndarray, "S n"]
    rates: Int[np.ndarray, "S n1"]
    window: Bool[np.ndarray, "S"]
    motion: Float[np.ndarray, "S 4"]


class Changes(NamedTuple):
    """What a computed step shows, for each layer that is looked at.

    Attributes:
      change: relative to the last computed step.
      motion: relative change along the frames; None where motion does not count.
    """

    change: OfLayers
    motion: OfLayers | None = None


class Due(NamedTuple):
    """What `Codebook` keeps.

    Attributes:
      step: the next computed one.
      rate: steps from the last computed one to that.
      motion: of each layer, where it was last looked at.
    """

    step: Count
    rate: Count
    motion: OfLayers


@dataclass(frozen=True)
class Codebook:
    """Each computed step says when the next one is, by how much it changed.

    Attributes:
      layers: how many are looked at; the last one's rate counts.
    """

    layers: int = 1

    def start(self) -> Due:
        """The second step is due."""
        first = jnp.ones((), jnp.int32)
        return Due(first, first, jnp.ones(self.layers, jnp.float32))

    def judge(self, own: Due, number: Any, row: DecisionRows, planned: Index) -> Verdict:
        """See `decisions.Rule`."""
        computes = jnp.where(row.free, row.step == own.step, planned > 0)
        return Verdict(computes, jnp.zeros((), jnp.float32), own)

    def learn(self, found: Verdict, number: Changes, row: DecisionRows) -> Verdict:
        """Behind a computed step, the rate that holds from the next one on."""
        own, numbers = found.own, row.rule
        looked = found.computes & (row.step > 0)  # the first step has nothing to compare with
        rate = own.rate.astype(jnp.float32)
        seen = jnp.arange(1, self.layers + 1, dtype=jnp.float32)
        metric = jnp.cumsum(number.change / rate) / seen
        motion = own.motion
        if number.motion is not None:
            scale, power, divisor, weight = numbers.motion
            motion = (number.motion / scale) ** power / divisor
            motion = jnp.where(numbers.window, motion, 1.0)
            metric = metric * (motion + jnp.abs(weight * (motion - own.motion) / rate))
        below = metric[-1] < numbers.thresholds
        chosen = numbers.rates[jnp.where(below.any(), jnp.argmax(below), len(below))]
        new = jnp.where(looked, chosen, own.rate)
        own = Due(
            jnp.where(found.computes, row.step + new, own.step),
            new,
            jnp.where(looked, motion, own.motion),
        )
        return Verdict(found.computes, jnp.where(looked, metric[-1], 0.0), own)
