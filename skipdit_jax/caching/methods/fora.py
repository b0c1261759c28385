"""FORA (arXiv 2407.01425): of every N steps one computes attention and MLPs, others reuse them."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skipdit_jax.caching.forecasts import by_name
from skipdit_jax.caching.method import Method
from skipdit_jax.caching.plan import Plan, Run
from skipdit_jax.caching.planning import whole_sublayers


@dataclass(frozen=True, kw_only=True)
class Fora(Method):
    """Reuses the updates of all sub-layers behind fresh norms and gates.

    Steps are counted from the end, s = S-1 .. 0, and s = S-1 and all multiples of N are computed:
    the last step always is, and the second may be.

    Attributes:
      every: N. 1 computes every step.
      forecast: as in `SkipCache`; "taylor2" is TaylorSeer on FORA's schedule.
    """

    NAME: ClassVar[str] = "fora"
    PAPER: ClassVar[str] = "arXiv 2407.01425"
    EXAMPLE: ClassVar[str] = "fora:3"
    KEEPS: ClassVar[str] = "updates of attention and MLPs"
    title: ClassVar[str] = "FORA"

    every: int = 3
    forecast: str = "hold"

    def __post_init__(self):
        """Raises ValueError for settings that mean nothing."""
        by_name(self.forecast)
        if self.every < 1:
            raise ValueError(f"FORA: N is {self.every}, wanted 1 or more (1 computes every step)")

    def plan(self, run: Run) -> Plan:
        """The plan of a run; see `CachePolicy`."""
        countdown = np.arange(run.steps)[::-1]
        computed = (countdown == run.steps - 1) | (countdown % self.every == 0)
        return whole_sublayers(run, computed, by_name(self.forecast))
