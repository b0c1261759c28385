"""Skip-Cache (arXiv 2411.17616): only the stages at both ends run, the deep part is reused.

What the last full step put into the back stages is kept; on a cached step the front stages run to
make the skips that the back stages fuse with it.
"""

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, ClassVar

from skipdit_jax.caching.forecasts import Forecaster, by_name, hold
from skipdit_jax.caching.intervals import (
    ALWAYS,
    check_interval,
    check_listed,
    interval_reuse,
    listed_reuse,
)
from skipdit_jax.caching.plan import Plan, Run
from skipdit_jax.caching.planning import reuse_middle
from skipdit_jax.config import long_form
from skipdit_jax.typing import StepFlags

PUBLISHED_STOP = 20  # of class to image: docs/notes.md, Skip-Cache as published
NARROWEST = 1  # the branch that saves most
UNTIMED = (1, None, None)  # every, start and stop that say nothing

_NOTATION = re.compile(r"N?(?P<every>\d+)(-(?P<start>\d+)-(?P<stop>\d+))?")


def reuse_deep(run: Run, reuse: StepFlags, branch: int, forecast: Forecaster = hold) -> Plan:
    """Plans the reuse of what enters the last `branch` stages.

    Raises:
      ValueError: the model has no skips, or too few stages.
    """
    if not run.num_skips:
        raise ValueError("Skip-Cache needs long skips: choose a -skip model or no cache")
    return reuse_middle(run, reuse, branch, branch, residual=False, forecast=forecast)


@dataclass(frozen=True, kw_only=True)
class SkipCache:
    """Skip-Cache: of every N steps one runs the whole network, the others only its ends.

    Attributes:
      every: N. 1 computes every step.
      branch: k, the number of stages at each end that always run.
      start: steps at timesteps >= start are computed in full (1000: none is forced).
      stop: after the first step at or below this timestep all are computed in full (-1: never).
      forecast: "hold" reuses the last value, "taylor1" to "taylor4" and "foca" extrapolate it.
      full: the steps that are computed, counted from 0, the first of all: a list of one's own in
        place of `every`, `start` and `stop`; () for none.

    Timesteps count as of a process of 1000, whatever the model's; see `Run`.

    What is None is, when a model is sampled, as published for its family (`resolved`).
    """

    NAME: ClassVar[str] = "skip-cache"
    PAPER: ClassVar[str] = "arXiv 2411.17616"
    EXAMPLE: ClassVar[str] = "N3"
    KEEPS: ClassVar[str] = "input of the last k stages"

    every: int = 1
    branch: int | None = None
    start: int | None = None
    stop: int | None = None
    forecast: str = "hold"
    full: tuple[int, ...] = ()

    def __post_init__(self):
        """Raises ValueError for settings that mean nothing."""
        by_name(self.forecast)
        check_listed("SkipCache", self.full, (self.every, self.start, self.stop) != UNTIMED)
        check_interval("SkipCache", self.every, *self._interval())
        if self.branch is not None and self.branch < 1:
            raise ValueError(f"SkipCache: branch is {self.branch}, wanted 1 or more")

    @property
    def title(self) -> str:
        """What to call the method."""
        return "Skip-Cache"

    def plan(self, run: Run) -> Plan:
        """The plan of a run; see `CachePolicy`.

        Examples:
          >>> import numpy as np
          >>> run = Run(np.array([900, 700, 500, 300]), num_stages=12, num_skips=6)
          >>> SkipCache(every=3).plan(run).reuse
          array([False,  True,  True, False])
        """
        if self.full:
            reuse = listed_reuse("SkipCache", self.full, run.steps)
        else:
            reuse = interval_reuse(run.timesteps, self.every, *self._interval())
        return reuse_deep(run, reuse, self.branch or NARROWEST, by_name(self.forecast))

    def _interval(self) -> tuple[int, int]:
        return (
            ALWAYS if self.start is None else self.start,
            PUBLISHED_STOP if self.stop is None else self.stop,
        )

    def resolved(self, published: Any) -> "SkipCache":
        """Takes what is None from a published Skip-Cache: start and stop together, and branch."""
        if not isinstance(published, SkipCache):
            return self
        branch = published.branch if self.branch is None else self.branch
        if self.full:
            return dataclasses.replace(self, branch=branch)
        open_ended = self.start is None and self.stop is None
        start, stop = published._interval() if open_ended else self._interval()
        return dataclasses.replace(self, branch=branch, start=start, stop=stop)

    @classmethod
    def parse(cls, text: str, default: Any = None) -> "SkipCache | None":
        """Reads "N3-1000-20" (N, start, stop) or "N3"; None if the text is neither.

        Args:
          text: the notation.
          default: a Skip-Cache whose branch is taken, and with "N3" its start and stop.

        Raises:
          ValueError: N = 0 or stop >= start.

        Examples:
          >>> SkipCache.parse("N3-1000-20")
          SkipCache(every=3, branch=None, start=1000, stop=20, forecast='hold', full=())
        """
        match = _NOTATION.fullmatch(text)
        if not match:
            return None
        known = default if isinstance(default, cls) else cls(every=1)
        start, stop = known.start, known.stop
        if match["start"] is not None:
            start, stop = int(match["start"]), int(match["stop"])
        return cls(every=int(match["every"]), branch=known.branch, start=start, stop=stop)

    def __str__(self):
        """What `parse` reads; it has no place for the branch, see `notation.write`."""
        if self.full:
            return long_form(self.NAME, self)
        if self.start is None and self.stop is None:
            return f"N{self.every}"
        start, stop = self._interval()
        return f"N{self.every}-{start}-{stop}"
