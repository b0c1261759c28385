"""What a plan is worth, by arithmetic: steps, FLOPs, the ceiling of the speedup, bytes."""

from dataclasses import dataclass

import jax
import numpy as np

from skipdit_jax.caching.plan import Plan
from skipdit_jax.contracts import Costs


@dataclass(frozen=True, kw_only=True)
class CacheSummary:
    """The arithmetic of one sampling run.

    Attributes:
      full_steps: steps that ran the whole network.
      cached_steps: steps that reused the deep part.
      full_flops: FLOPs of one full call for the whole network batch.
      cached_flops: FLOPs of one cached call.
      cache_bytes: size of the cache.
    """

    full_steps: int
    cached_steps: int
    full_flops: int
    cached_flops: int
    cache_bytes: int

    @property
    def steps(self) -> int:
        """S."""
        return self.full_steps + self.cached_steps

    @property
    def flops(self) -> int:
        """FLOPs of the run."""
        return self.full_steps * self.full_flops + self.cached_steps * self.cached_flops

    @property
    def flops_uncached(self) -> int:
        """FLOPs of the same run with every step computed."""
        return self.steps * self.full_flops

    @property
    def ceiling(self) -> float:
        """The speedup that the saved FLOPs allow."""
        return self.flops_uncached / self.flops

    @property
    def equal_flops_steps(self) -> int:
        """How many uncached steps cost no more than the run (at least 1)."""
        return max(1, int(self.flops // self.full_flops))

    def __str__(self):
        """One line for people."""
        if not self.cached_steps:
            return f"{self.full_steps} steps computed; {self.flops / 1e12:.4g} TFLOP"
        saved = 100 * (1 - self.flops / self.flops_uncached)
        return (
            f"{self.full_steps} steps computed, {self.cached_steps} reused; "
            f"{self.flops / 1e12:.4g} of {self.flops_uncached / 1e12:.4g} TFLOP "
            f"({saved:.0f} % saved, at most {self.ceiling:.2f}x faster); "
            f"cache {self.cache_bytes / 2**20:.3g} MiB"
        )


def summarise(
    plan: Plan | None,
    steps: int,
    costs: Costs,
    rows: int,
    cache: jax.ShapeDtypeStruct | None = None,
) -> CacheSummary:
    """Counts what a run costs.

    Args:
      plan: the caching plan; None computes every step.
      steps: S.
      costs: FLOPs of the model's parts for one network row.
      rows: network batch B, doubled by guidance.
      cache: shape and type of the cached value.
    """
    full = costs.total()
    cached = full if plan is None else plan.trunk.flops(costs)
    reused = 0 if plan is None else int(np.sum(plan.reuse))
    size = 0 if cache is None or plan is None else int(np.prod(cache.shape)) * cache.dtype.itemsize
    return CacheSummary(
        full_steps=steps - reused,
        cached_steps=reused,
        full_flops=rows * full,
        cached_flops=rows * cached,
        cache_bytes=size,
    )
