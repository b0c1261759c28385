"""First-block cache (ParaAttention, diffusers): how far the first residual moved decides."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skipdit_jax.caching.decisions import check_over
from skipdit_jax.caching.method import Method
from skipdit_jax.caching.methods.db_cache import decided_by_front
from skipdit_jax.caching.plan import Plan, Run
from skipdit_jax.caching.rules import below


@dataclass(frozen=True, kw_only=True)
class FirstBlockCache(Method):
    """Computes the first stage at every step; the others where its residual moved.

    With r = h_1 - h_0, and r* that of the last computed step, a step reuses h_U - h_1 if

        sum |r - r*| <= threshold sum |r*|

    Attributes:
      threshold: 0.05 in diffusers; 0.06 to 0.12 for larger models.
      over: whose r decides, "mean" of all samples, "max" or "each"; see `decisions.OVER`.
      separate: condition and no condition decide for themselves, as in the pipelines of diffusers.
    """

    NAME: ClassVar[str] = "first-block"
    PAPER: ClassVar[str] = "ParaAttention"
    EXAMPLE: ClassVar[str] = "first-block:0.08"
    KEEPS: ClassVar[str] = "what the first stage adds, and what all others add"
    STATIC: ClassVar[bool] = False
    title: ClassVar[str] = "first-block cache"

    threshold: float | int = 0.05
    over: str = "mean"
    separate: bool = False

    def __post_init__(self):
        """Raises ValueError for settings that mean nothing."""
        check_over("FirstBlockCache", self.over)

    def plan(self, run: Run) -> Plan:
        """The plan of a run; see `CachePolicy`."""
        free = np.arange(run.steps) > 0
        above = np.nextafter(np.float32(self.threshold), np.float32(np.inf))  # equality reuses
        numbers = below(run.steps, float(above))
        return decided_by_front(
            run, free, free, 1, 0, numbers, over=self.over, separate=self.separate
        )
