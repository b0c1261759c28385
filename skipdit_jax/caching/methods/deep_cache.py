"""DeepCache (arXiv 2312.00858): on a model with long skips, Skip-Cache on an uneven schedule."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skipdit_jax.caching.method import Method
from skipdit_jax.caching.methods.skip_cache import NARROWEST, reuse_deep
from skipdit_jax.caching.plan import Plan, Run

POWER_STEP = 0.02  # by which the power falls until there are enough steps


@dataclass(frozen=True, kw_only=True)
class DeepCache(Method):
    """Computes `full` steps that lie densest around a centre; the others reuse the deep part.

    Attributes:
      full: n, how many steps are computed (S or more: all); 0: S / 3, rounded up.
      center: around which they lie densest; None: 0.3 S, the published 15 of 50.
      power: how much denser.
      branch: k, as in `SkipCache`.
    """

    NAME: ClassVar[str] = "deepcache"
    PAPER: ClassVar[str] = "arXiv 2312.00858"
    EXAMPLE: ClassVar[str] = "deepcache"
    KEEPS: ClassVar[str] = "input of the last k stages"
    title: ClassVar[str] = "DeepCache"

    full: int = 0
    center: int | None = None
    power: float | int = 1.4
    branch: int = NARROWEST

    def plan(self, run: Run) -> Plan:
        """The plan of a run; see `CachePolicy`."""
        center = round(0.3 * run.steps) if self.center is None else self.center
        full = self.full or -(-run.steps // 3)
        if full >= run.steps:
            return reuse_deep(run, np.zeros(run.steps, bool), self.branch)
        steps = quad_center(run.steps, full, center, self.power)
        return reuse_deep(run, ~np.isin(np.arange(run.steps), steps), self.branch)


def quad_center(steps: int, full: int, center: int, power: float | int) -> list[int]:
    """The computed steps of DeepCache's "quad-center" schedule.

    With z_j evenly from (-c)^(1/p) to (S - c)^(1/p), j = 0..n, the steps are 0 and c + Re(z_j^p)
    cut to whole numbers, of the interior ones; p falls until there are n of them. For c > 0 the
    first end is a complex root, as in the original: real powers with a sign give other lists.

    Raises:
      ValueError: no power above 1 gives so many.

    Examples:
      >>> quad_center(50, 10, 15, 1.4)
      [0, 5, 9, 13, 17, 21, 26, 31, 37, 43]
    """
    exponent = power
    while exponent > 1:
        ends = complex(-center) ** (1 / exponent), complex(steps - center) ** (1 / exponent)
        curve = np.linspace(*ends, full + 1) ** exponent
        places = {center + int(value.real) for value in curve[1:-1]}
        found = sorted({0, *places})
        if len(found) == full:
            return found
        exponent -= POWER_STEP
    raise ValueError(
        f"DeepCache: found no list of {full} of {steps} steps around {center} with power {power}"
    )
