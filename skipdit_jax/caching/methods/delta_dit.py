"""Delta-DiT (arXiv 2406.01125): residuals of front and rear blocks, as reproduced for Skip-DiT."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skipdit_jax.caching.method import Method
from skipdit_jax.caching.plan import Plan, Run, Span
from skipdit_jax.caching.planning import reuse_spans

PUBLISHED_SHARE = 21 / 28  # of the blocks: docs/notes.md, Delta-DiT as reproduced
WARMUP = 1  # steps behind the first that are computed too


@dataclass(frozen=True, kw_only=True)
class DeltaDiT(Method):
    """Of every N steps one is computed; the others reuse what some blocks added to their input.

    Early in a run, while outlines form, these are the rear blocks; at or below the boundary the
    front ones. For models without skips.

    Attributes:
      every: N.
      layers: how many blocks are reused; None: 3/4 of them.
      boundary: timestep at and below which the front blocks are reused.
      start: steps at timesteps >= start are computed.
      stop: steps at timesteps <= stop are computed.
    """

    NAME: ClassVar[str] = "delta"
    PAPER: ClassVar[str] = "arXiv 2406.01125"
    EXAMPLE: ClassVar[str] = "delta:2"
    KEEPS: ClassVar[str] = "what the front and the rear blocks add"
    title: ClassVar[str] = "Delta-DiT"

    every: int = 2
    layers: int | None = None
    boundary: int = 600
    start: int = 1000
    stop: int = 10

    def __post_init__(self):
        """Raises ValueError for settings that mean nothing."""
        if self.every < 1:
            raise ValueError(f"Delta-DiT: N is {self.every}, wanted 1 or more")

    def plan(self, run: Run) -> Plan:
        """The plan of a run; see `CachePolicy`."""
        layers = self.layers or round(PUBLISHED_SHARE * run.num_stages)
        if not 0 < layers < run.num_stages:
            raise ValueError(
                f"Delta-DiT: found {layers} layers to reuse, wanted 1 to {run.num_stages - 1}"
            )
        step, tau = np.arange(run.steps), run.timesteps
        reuse = (step % self.every != 0) & (step > WARMUP) & (self.stop < tau) & (tau < self.start)
        front, rear = (
            Span(0, layers, residual=True),
            Span(run.num_stages - layers, run.num_stages, True),
        )
        kinds = np.where(reuse, np.where(tau <= self.boundary, 0, 1), 2)
        return reuse_spans(run, kinds, (front, rear))
