"""The residual of a range of blocks is reused (Delta-DiT, arXiv 2406.01125): for plain models."""

from dataclasses import dataclass
from typing import ClassVar

from skipdit_jax.caching.forecasts import by_name
from skipdit_jax.caching.intervals import (
    ALWAYS,
    NEVER,
    check_interval,
    check_listed,
    interval_reuse,
    listed_reuse,
)
from skipdit_jax.caching.method import Method
from skipdit_jax.caching.plan import Plan, Run
from skipdit_jax.caching.planning import reuse_middle


@dataclass(frozen=True, kw_only=True)
class BlockCache(Method):
    """Reuses what the middle of a model added to its input.

    The baseline for models without skips: the residual of blocks [front, U - back) is kept from the
    last full step.

    Attributes:
      every: N. 1 computes every step. None where `full` says which are.
      front: stages that always run before the cached range.
      back: stages that always run after it.
      start: as in `SkipCache`.
      stop: as in `SkipCache`.
      forecast: as in `SkipCache`.
      full: as in `SkipCache`.
    """

    NAME: ClassVar[str] = "block-cache"
    PAPER: ClassVar[str] = "arXiv 2406.01125"
    EXAMPLE: ClassVar[str] = "block-cache(every=3)"
    KEEPS: ClassVar[str] = "what the middle blocks add"
    title: ClassVar[str] = "block cache"

    every: int | None = None
    front: int = 1
    back: int = 1
    start: int = ALWAYS
    stop: int = NEVER
    forecast: str = "hold"
    full: tuple[int, ...] = ()

    def __post_init__(self):
        """Raises ValueError for settings that mean nothing."""
        by_name(self.forecast)
        timed = (self.every, self.start, self.stop) != (None, ALWAYS, NEVER)
        check_listed("BlockCache", self.full, timed)
        if not self.full:
            if self.every is None:
                raise ValueError("BlockCache: found neither every nor full, wanted one of them")
            check_interval("BlockCache", self.every, self.start, self.stop)
        if min(self.front, self.back) < 0:
            raise ValueError(f"BlockCache: front {self.front} and back {self.back} must be >= 0")

    def plan(self, run: Run) -> Plan:
        """The plan of a run; see `CachePolicy`."""
        if self.full:
            reuse = listed_reuse("BlockCache", self.full, run.steps)
        else:
            assert self.every is not None
            reuse = interval_reuse(run.timesteps, self.every, self.start, self.stop)
        forecast = by_name(self.forecast)
        return reuse_middle(run, reuse, self.front, self.back, residual=True, forecast=forecast)
