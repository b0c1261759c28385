"""Pyramid Attention Broadcast (arXiv 2408.12588): attention outputs reused over ranges of steps."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skipdit_jax.caching.method import Method
from skipdit_jax.caching.plan import Plan, Run
from skipdit_jax.caching.planning import reuse_sublayers
from skipdit_jax.typing import StepFlags

Broadcast = tuple[int, tuple[int, ...], int]
"""(timestep, stages, n): there these stages' MLPs are computed, and reused in the next n steps."""


@dataclass(frozen=True, kw_only=True)
class Pab(Method):
    """Computes each kind of attention in one of so many steps, in the middle of a run.

    Step i computes a kind of range r if i mod r = 0, or if not low < t < high; steps are counted
    from the first call, also outside the window.

    Attributes:
      spatial: range of attention within a frame (of an image model: its attention).
      temporal: of attention along frames.
      cross: of cross-attention.
      low: of the window, a timestep.
      high: of the window.
      temporal_window: (low, high) of temporal attention, if it has its own.
      gated: keep gate * update, as VideoSys; False keeps the update, as diffusers.
      mlp: MLPs that are reused, each `Broadcast`; the first that names a timestep counts.
      temporal_mlp: the same for the MLPs of temporal blocks.
    """

    NAME: ClassVar[str] = "pab"
    PAPER: ClassVar[str] = "arXiv 2408.12588"
    EXAMPLE: ClassVar[str] = "pab:2:3"
    KEEPS: ClassVar[str] = "updates of attention behind their gates"
    title: ClassVar[str] = "PAB"

    spatial: int = 2
    temporal: int = 3
    cross: int = 6
    low: int = 100
    high: int = 800
    temporal_window: tuple[int, int] | None = None
    gated: bool = True
    mlp: tuple[Broadcast, ...] = ()
    temporal_mlp: tuple[Broadcast, ...] = ()

    def __post_init__(self):
        """Raises ValueError for settings that mean nothing."""
        if min(self.spatial, self.temporal, self.cross) < 1:
            raise ValueError("PAB: found a range below 1, wanted 1 or more (1 computes every step)")

    def plan(self, run: Run) -> Plan:
        """The plan of a run; see `CachePolicy`."""
        window = (self.low, self.high)
        columns = {
            "attn": self._attention(run, self.spatial, window),
            "tattn": self._attention(run, self.temporal, self.temporal_window or window),
            "xattn": self._attention(run, self.cross, window),
        }
        sites = list(run.sites(*columns))
        computed = [columns[name] for _, name in sites]
        for name, broadcasts in (("mlp", self.mlp), ("tmlp", self.temporal_mlp)):
            for site in run.sites(name):
                if any(site[0] in stages for _, stages, _ in broadcasts):
                    sites.append(site)
                    computed.append(_broadcast(run, broadcasts, site[0]))
        if not sites:
            raise ValueError("PAB: found no attention in the model that can be reused")
        return reuse_sublayers(run, np.stack(computed, axis=1), sites, gated=self.gated)

    def _attention(self, run: Run, every: int, window: tuple[int, int]) -> StepFlags:
        inside = (window[0] < run.timesteps) & (run.timesteps < window[1])
        return (np.arange(run.steps) % every == 0) | ~inside


def _broadcast(run: Run, broadcasts: tuple[Broadcast, ...], stage: int) -> StepFlags:
    """Which steps compute the MLP of a stage."""
    computed = np.ones(run.steps, bool)
    for step, timestep in enumerate(run.timesteps):
        first = next((b for b in broadcasts if b[0] == timestep), None)
        if first is not None and stage in first[1]:
            computed[step + 1 : step + 1 + first[2]] = False
    return computed
