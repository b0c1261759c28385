"""DBCache (cache-dit): how far the residual of the first F blocks moved decides over the middle."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from skipdit_jax.caching import live_forecasts
from skipdit_jax.caching.decisions import Decision, check_over
from skipdit_jax.caching.method import Method
from skipdit_jax.caching.plan import Plan, Run
from skipdit_jax.caching.planning import decided, reuse_middle
from skipdit_jax.caching.probes import FrontResidual
from skipdit_jax.caching.rules import NO_LIMIT, Below, BelowRow, below
from skipdit_jax.typing import StepFlags

ALWAYS_FROM = 1.0  # a threshold from here on reuses whatever was measured
DIFFERENCES_FROM = 3  # cache-dit's Taylor polynomial exists one computed step late, from this one


@dataclass(frozen=True, kw_only=True)
class DBCache(Method):
    """Computes F stages at the front and B at the back; the middle where the front moved.

    With r = h_F - h_0, r* that of the last computed step and m = sum |r - r*| / sum |r*|, a step is
    computed if it is one of the warm-up or the mask says so, if a limit is met, or m >= threshold.
    Else the middle adds what it added at the last computed step, or a forecast of that.

    Attributes:
      threshold: of m; 1 and more always reuse, 0 never.
      front: F.
      back: B; with long skips at most F.
      warmup: W, steps at the start that are computed.
      warmup_every: of the warm-up only one of so many steps is; the others are decided.
      most: steps reused in a row; None: no limit.
      most_in_all: steps reused in a run.
      limit: of the sum of all m; once it is met, all later steps are computed.
      mask: for each step 1 if it is computed; () for none. The warm-up then ends with its leading
        ones.
      mask_decides: a 0 of the mask is a reused step ("static" in cache-dit); False: m decides.
      forecast: "hold", "taylor1" to "taylor4" or "foca".
      over: whose m decides, "mean" of all samples, "max" or "each"; see `decisions.OVER`.
      separate: condition and no condition decide for themselves.
    """

    NAME: ClassVar[str] = "db-cache"
    PAPER: ClassVar[str] = "cache-dit"
    EXAMPLE: ClassVar[str] = "db-cache:0.08:1"
    KEEPS: ClassVar[str] = "what the front adds, and what the middle adds"
    STATIC: ClassVar[bool] = False
    title: ClassVar[str] = "DBCache"

    threshold: float | int = 0.08
    front: int = 8
    back: int = 0
    warmup: int = 8
    warmup_every: int = 1
    most: int | None = None
    most_in_all: int | None = None
    limit: float | int | None = None
    mask: tuple[int, ...] = ()
    mask_decides: bool = False
    forecast: str = "hold"
    over: str = "mean"
    separate: bool = False

    def __post_init__(self):
        """Raises ValueError for settings that mean nothing."""
        check_over("DBCache", self.over)
        live_forecasts.by_name(self.forecast)
        if self.front < 1 or self.back < 0:
            raise ValueError(
                f"DBCache: front is {self.front} and back {self.back}, wanted front >= 1, back >= 0"
            )
        if self.warmup_every < 1:
            raise ValueError(f"DBCache: warmup_every is {self.warmup_every}, wanted 1 or more")
        if not set(self.mask) <= {0, 1}:
            raise ValueError("DBCache: found a mask of other than 0 and 1")

    def plan(self, run: Run) -> Plan:
        """The plan of a run; see `CachePolicy`."""
        computed, free = self._forced(run)
        numbers = below(
            run.steps,
            np.inf if self.threshold >= ALWAYS_FROM else self.threshold,
            np.inf if self.limit is None else self.limit,
            NO_LIMIT if self.most is None else self.most,
            NO_LIMIT if self.most_in_all is None else self.most_in_all,
        )
        forecast = live_forecasts.by_name(self.forecast, DIFFERENCES_FROM)
        return decided_by_front(
            run,
            ~computed,
            free,
            self.front,
            self.back,
            numbers,
            forecast=forecast,
            over=self.over,
            separate=self.separate,
        )

    def _forced(self, run: Run) -> tuple[StepFlags, StepFlags]:
        """Where a step is computed whatever was measured, and where the loop decides."""
        if self.mask and len(self.mask) != run.steps:
            raise ValueError(f"DBCache: found a mask of {len(self.mask)} steps, wanted {run.steps}")
        mask = np.array(self.mask, bool)
        leading = int(np.argmin(np.append(mask, False))) if self.mask else run.steps
        computed = np.zeros(run.steps, bool)
        computed[: min(self.warmup, leading) : self.warmup_every] = True
        computed[:1] = True
        if not self.mask:
            return computed, ~computed
        computed |= mask
        return computed, ~computed & (not self.mask_decides)


def decided_by_front(
    run: Run,
    reuse: StepFlags,
    free: StepFlags,
    front: int,
    back: int,
    numbers: BelowRow,
    **decision: Any,
) -> Plan:
    """A plan whose middle stages are left to the residual of those before them.

    Args:
      run: of the method.
      reuse: where the middle is reused, or may be.
      free: where the loop decides that.
      front: stages before it.
      back: stages behind it.
      numbers: of the rule.
      **decision: further fields of `Decision`.
    """
    plan = reuse_middle(run, reuse, front, back, residual=True)
    return decided(plan, Decision(FrontResidual(), Below(), **decision), free, numbers)
