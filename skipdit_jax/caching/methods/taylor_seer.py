"""TaylorSeer (arXiv 2503.06923): sub-layers are extrapolated from their last computed values."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skipdit_jax.caching.forecasts import MAX_ORDER, taylor
from skipdit_jax.caching.method import Method
from skipdit_jax.caching.plan import Plan, Run
from skipdit_jax.caching.planning import reuse_output, whole_sublayers
from skipdit_jax.typing import StepFlags

PHASES = ("paper", "diffusers")


@dataclass(frozen=True, kw_only=True)
class TaylorSeer(Method):
    """Computes one of every I steps, and forecasts the others by a Taylor polynomial of order O.

    Attributes:
      interval: I. 1 computes every step.
      order: O; O + 1 values are kept of each sub-layer.
      lite: forecast the network's output instead: O + 1 values in all; such a step runs nothing.
      phase: with W = warmup, "paper" computes step i if i < W or (i - W + 1) mod I = 0;
        "diffusers", as its hook, if i < W or (i - W - 1) mod I = 0: step W is a forecast.
      warmup: W, steps at the start that are computed.
      until: all steps from this one on are computed; None: none for that reason.
    """

    NAME: ClassVar[str] = "taylor"
    PAPER: ClassVar[str] = "arXiv 2503.06923"
    EXAMPLE: ClassVar[str] = "taylor:4:1"
    KEEPS: ClassVar[str] = "last values of attention and MLPs"
    title: ClassVar[str] = "TaylorSeer"

    interval: int = 4
    order: int = 1
    lite: bool = False
    phase: str = "paper"
    warmup: int = 2
    until: int | None = None

    def __post_init__(self):
        """Raises ValueError for settings that mean nothing."""
        if self.interval < 1:
            raise ValueError(f"TaylorSeer: interval is {self.interval}, wanted 1 or more")
        if not 0 <= self.order <= MAX_ORDER:
            raise ValueError(f"TaylorSeer: order is {self.order}, wanted 0 to {MAX_ORDER}")
        if self.phase not in PHASES:
            raise ValueError(f"TaylorSeer: phase is {self.phase!r}, wanted {' or '.join(PHASES)}")
        if self.warmup < 1:
            raise ValueError(f"TaylorSeer: warmup is {self.warmup}, wanted 1 or more")

    def plan(self, run: Run) -> Plan:
        """The plan of a run; see `CachePolicy`."""
        computed = self._computed(np.arange(run.steps))
        if self.lite:
            return reuse_output(run, ~computed, forecast=taylor(self.order))
        return whole_sublayers(run, computed, taylor(self.order))

    def _computed(self, step: np.ndarray) -> StepFlags:
        first = self.warmup - 1 if self.phase == "paper" else self.warmup + 1
        late = np.inf if self.until is None else self.until
        return (step < self.warmup) | ((step - first) % self.interval == 0) | (step >= late)
