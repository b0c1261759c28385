"""EasyCache (arXiv 2507.02860): latents and outputs alone decide; a reused step runs nothing."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skipdit_jax.caching.decisions import Decision, check_over
from skipdit_jax.caching.latents import LatentsAndOutput
from skipdit_jax.caching.method import Method
from skipdit_jax.caching.plan import Plan, Run
from skipdit_jax.caching.planning import decided, reuse_output
from skipdit_jax.caching.rules import Accumulate, accumulate


@dataclass(frozen=True, kw_only=True)
class EasyCache(Method):
    """Reuses output less latents while the output is expected to have moved by little.

    With x latents, v what the network makes of them, f the last computed step and g the one before,

        k = sum |v_f - v_g| / sum |x_f - x_g|
        a += k sum |x_j - x_(j-1)| / sum |v_f|;    v_j = x_j + (v_f - x_f) if a < threshold

    and a = 0 behind a computed step. Channels of the variance take no part, and are held.

    Attributes:
      threshold: of a.
      first: steps at the start that are computed; the last step is too.
      over: whose latents decide, "mean" of all samples, "max" or "each"; see `decisions.OVER`.
    """

    NAME: ClassVar[str] = "easycache"
    PAPER: ClassVar[str] = "arXiv 2507.02860"
    EXAMPLE: ClassVar[str] = "easycache:0.025"
    KEEPS: ClassVar[str] = "latents, and the network's output"
    STATIC: ClassVar[bool] = False
    title: ClassVar[str] = "EasyCache"

    threshold: float | int = 0.025
    first: int = 5
    over: str = "mean"

    def __post_init__(self):
        """Raises ValueError for settings that mean nothing."""
        check_over("EasyCache", self.over)

    def plan(self, run: Run) -> Plan:
        """The plan of a run; see `CachePolicy`."""
        step = np.arange(run.steps)
        free = (step >= max(self.first, 1)) & (step < run.steps - 1)
        decision = Decision(LatentsAndOutput(), Accumulate(), over=self.over)
        rule = accumulate(run.steps, self.threshold)
        return decided(reuse_output(run, free), decision, free, rule)
