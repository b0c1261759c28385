"""SeaCache (arXiv 2602.18993): latents behind a spectral filter tell how far the output moved."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skipdit_jax.caching import live_forecasts
from skipdit_jax.caching.decisions import Decision, check_over
from skipdit_jax.caching.latents import FilteredLatents, FilterRow
from skipdit_jax.caching.method import Method
from skipdit_jax.caching.plan import Plan, Run
from skipdit_jax.caching.planning import decided, reuse_middle
from skipdit_jax.caching.rules import NO_LIMIT, Accumulate, accumulate, of_all


@dataclass(frozen=True, kw_only=True)
class SeaCache(Method):
    """Reuses what all stages added while changes of the filtered latents sum up to little.

    With y the latents behind the filter of their noise level (`latents.FilteredLatents`), and a = 0
    behind a computed step,

        a += mean over rows of  sum |y_i - y_(i-1)| / sum |y_(i-1)|;    reuse if a < threshold

    Attributes:
      threshold: of a.
      forecast: what stands for the stages: "hold", "taylor1" (order 1 of diffusers), ...
      first: steps at the start that are computed.
      last: steps at the end that are computed.
      most: steps reused in a row; None: no limit.
      power: how fast the spectrum of data decays.
      over: whose y decides, "mean" of all rows, "max" or "each"; see `decisions.OVER`.
    """

    NAME: ClassVar[str] = "seacache"
    PAPER: ClassVar[str] = "arXiv 2602.18993"
    EXAMPLE: ClassVar[str] = "seacache:0.2"
    KEEPS: ClassVar[str] = "filtered latents, and what all stages add"
    STATIC: ClassVar[bool] = False
    title: ClassVar[str] = "SeaCache"

    threshold: float | int = 0.2
    forecast: str = "hold"
    first: int = 1
    last: int = 1
    most: int | None = None
    power: float | int = 3.0
    over: str = "mean"

    def __post_init__(self):
        """Raises ValueError for settings that mean nothing."""
        check_over("SeaCache", self.over)
        live_forecasts.by_name(self.forecast)

    def plan(self, run: Run) -> Plan:
        """The plan of a run; see `CachePolicy`."""
        if run.noise is None:
            raise ValueError("SeaCache: found no noise levels of the steps, wanted `Run.noise`")
        step = np.arange(run.steps)
        free = (step >= max(self.first, 1)) & (step < run.steps - self.last)
        decision = Decision(
            FilteredLatents(), Accumulate(), live_forecasts.by_name(self.forecast), self.over
        )
        rule = accumulate(
            run.steps, self.threshold, most=NO_LIMIT if self.most is None else self.most
        )
        probe = FilterRow(run.noise.astype(np.float32), of_all(run.steps, np.float32(self.power)))
        return decided(reuse_middle(run, free, 0, 0, residual=True), decision, free, rule, probe)
