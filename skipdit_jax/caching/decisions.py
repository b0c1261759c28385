"""Decisions: which steps the loop reuses where the plan leaves it to a number of the sample.

A decision has four parts, each a small frozen dataclass; the program is traced for them, and all
their numbers (thresholds, limits, polynomials) are rows of data:

    probe      what is looked at, and against what (`probes`)
    metric     how far it moved: relative L1 in float32 (`Movement`)
    rule       whether that is far enough to compute (`rules`)
    forecast   what stands for the trunk, at distances that only the loop knows (`live_forecasts`)

Rows are summed on their own and joined outside the conditional, so that devices which share a batch
agree on the side that they take.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from skipdit_jax.caching.plan import Ring, RingRows
from skipdit_jax.caching.trunk import Runner
from skipdit_jax.contracts import StagedModel
from skipdit_jax.typing import Flag, Hidden, Index, Latents, Scalar

EACH = "each"
OVER = ("mean", "max", EACH)
"""Whose number decides: of all samples together, of the one that moved most, of each for itself."""

SumOfRow = Float[Array, "rows"]
Counting = Bool[Array, "samples"]
"""Which samples of a batch count where one number decides for all."""


class DecisionRows(NamedTuple):
    """Numbers of every step.

    Attributes:
      step: int32 [S], 0 to S - 1.
      free: bool [S], where the loop decides; elsewhere the plan's kind holds.
      rule: of the rule, leaves [S,...].
      probe: of the probe, if it needs any.
    """

    step: Int[np.ndarray, "S"]
    free: Bool[np.ndarray, "S"]
    rule: Any
    probe: Any = None


class Seen(NamedTuple):
    """What a probe may look at, before the choice.

    Attributes:
      model: the backbone.
      x: network input [B,..,C].
      embedded: tokens and conditioning (h [B,*,D], c); None where the network may not run.
      h: what enters the span that can be reused [B,*,D]; None likewise.
      row: numbers of this step.
    """

    model: StagedModel
    x: Latents
    embedded: tuple[Hidden, Any] | None
    h: Hidden | None
    row: DecisionRows | None


class Verdict(NamedTuple):
    """What a rule found.

    Attributes:
      computes: whether the step is computed.
      compared: the number that was compared; 0 where none was looked at.
      own: what the rule keeps.
    """

    computes: Flag
    compared: Scalar
    own: Any


class Movement(NamedTuple):
    """How far something moved, of a whole batch.

    Attributes:
      over: of `OVER`.
      counted: which samples count, [B]; the others only fill up a batch. None: all.
    """

    over: str = OVER[0]
    counted: Counting | None = None

    def __call__(self, part: SumOfRow, whole: SumOfRow, *, pooled: bool = True) -> Scalar:
        """Sums of rows (guided: those of both halves, one behind the other) as one ratio.

        Args:
          part: of the differences.
          whole: of what they are relative to.
          pooled: the ratio of the sums over the batch; False: the mean of the rows' ratios.
        """
        counted = self.counted
        halves = 1 if counted is None else len(part) // len(counted)
        if counted is None:
            counted = jnp.ones(len(part), bool)
        part, whole = (jnp.where(counted, s.reshape(halves, -1), 0.0) for s in (part, whole))
        if self.over == "max":
            return jnp.max(_ratio(part.sum(axis=0), whole.sum(axis=0)))
        if pooled:
            return _ratio(part.sum(), whole.sum())
        return _ratio(part, whole).sum() / (halves * counted.astype(jnp.float32).sum())


def _ratio(part: Array, whole: Array) -> Array:
    """Of nothing to nothing 0: an untrained block adds nothing, and nothing moved."""
    infinite = jnp.where(part > 0, jnp.inf, 0.0)
    return jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1.0), infinite)


def size(x: Array) -> SumOfRow:
    """The L1 norm of each row, float32."""
    return jnp.abs(x.astype(jnp.float32)).sum(axis=tuple(range(1, x.ndim)))


def distance(x: Array, y: Array) -> SumOfRow:
    """The L1 norm of the difference of each row, float32."""
    return size(x.astype(jnp.float32) - y.astype(jnp.float32))


@runtime_checkable
class Probe(Protocol):
    """What a method looks at. One that is hashable may be written anywhere (`probes.Watched`)."""

    def start(self, seen: Seen) -> Any:
        """What it keeps before the first step, zeros; only shapes of what is seen matter."""
        ...

    def measure(self, seen: Seen, kept: Any, movement: Movement) -> tuple[Any, Any]:
        """What it sees, and the number for the rule, before the choice."""
        ...

    def runner(self, model: StagedModel, c: Any) -> Runner:
        """What runs the stages; "slots" are what `inside` says."""
        ...

    def inside(self, kept: Any) -> Any:
        """The part of what it keeps that is renewed where stages are computed."""
        ...

    def renew(
        self, saw: Any, kept: Any, inside: Any, computed: Flag, output: Array, movement: Movement
    ) -> Any:
        """What it keeps behind the step."""
        ...

    def behind(self, kept: Any, movement: Movement) -> Any:
        """Numbers for the rule behind a computed step."""
        ...


@runtime_checkable
class Rule(Protocol):
    """What follows from a number."""

    def start(self) -> Any:
        """What it keeps before the first step."""
        ...

    def judge(self, own: Any, number: Any, row: DecisionRows, planned: Index) -> Verdict:
        """The decision of a step; where it is not free, the planned kind holds (0 reuses)."""
        ...

    def learn(self, found: Verdict, number: Any, row: DecisionRows) -> Verdict:
        """The same behind the step, with the number of `Probe.behind`."""
        ...


@runtime_checkable
class LiveForecast(Protocol):
    """What stands for the trunk where a step reuses it."""

    @property
    def ring(self) -> Ring:
        """What is kept of it."""
        ...

    def start(self) -> Any:
        """What it knows before the first step."""
        ...

    def follow(self, past: Any, step: Array, computed: Flag) -> tuple[RingRows | None, Any]:
        """The numbers of a step, and what it knows behind it."""
        ...


@dataclass(frozen=True)
class Hold:
    """The last computed value."""

    ring: ClassVar[Ring] = Ring()

    def start(self) -> Any:
        """Nothing."""
        return ()

    def follow(self, past: Any, step: Array, computed: Flag) -> tuple[None, Any]:
        """No numbers."""
        return None, past


@dataclass(frozen=True)
class Decision:
    """A method that decides as it runs.

    Attributes:
      probe: what it looks at.
      rule: what follows.
      forecast: what stands for the trunk.
      over: of `OVER`.
      separate: condition and no condition are two calls, each of which decides for itself.
    """

    probe: Probe
    rule: Rule
    forecast: LiveForecast = Hold()
    over: str = OVER[0]
    separate: bool = False

    def movement(self, counted: Counting | None) -> Movement:
        """The metric over samples that count."""
        return Movement(self.over, counted)


class Told(NamedTuple):
    """What a step did.

    Attributes:
      kind: int32, of the trunk.
      compared: float32, see `Verdict`.
    """

    kind: Index
    compared: Scalar


class Live(NamedTuple):
    """What a decision keeps from step to step.

    Attributes:
      probe: what the probe compares with.
      own: numbers of the rule.
      past: of the forecast.
      told: of the last step.
    """

    probe: Any
    own: Any
    past: Any
    told: Told


def check_over(method: str, over: str) -> None:
    """Raises ValueError, beginning with the name of a method, for what is none of `OVER`."""
    if over not in OVER:
        raise ValueError(f"{method}: over is {over!r}, wanted one of {', '.join(OVER)}")
