"""What a plan is worth, by arithmetic: steps, FLOPs, the ceiling of the speedup, bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from skipdit_jax.caching.plan import Kinds, Plan, Trunk
from skipdit_jax.contracts import Costs

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class CacheSummary:
    """The arithmetic of one sampling run.

    Attributes:
      full_steps: steps that ran the whole network.
      cached_steps: steps that reused a part of it.
      full_flops: FLOPs of one full call for the whole network batch.
      cached_flops: FLOPs of one cached call, of the mean of them if they differ.
      cache_bytes: size of what is kept from step to step.
      prepared_bytes: of what is made for each of the steps before the first.
      digest_bytes: of what is made of the condition before the first, the same for all steps.
      left_out_bytes: of that, where it is made at each step because it would be too large.
      open: the reused steps are those that may be: the loop decides, and may compute any of them.
      surplus_flops: of one cached call, on average: of tokens that are computed and dropped.
    """

    full_steps: int
    cached_steps: int
    full_flops: int
    cached_flops: float
    cache_bytes: int
    prepared_bytes: int = 0
    digest_bytes: int = 0
    left_out_bytes: int = 0
    open: bool = False
    surplus_flops: float = 0.0

    @property
    def steps(self) -> int:
        """S."""
        return self.full_steps + self.cached_steps

    @property
    def flops(self) -> float:
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
        kept = {"text": self.digest_bytes}
        if self.cached_steps:
            kept = {"cache": self.cache_bytes, "modulation": self.prepared_bytes, **kept}
            saved = 100 * (1 - self.flops / self.flops_uncached)
            done, least = ("left to the samples", "at least ") if self.open else ("reused", "")
            told = (
                f"{self.full_steps} steps computed, {self.cached_steps} {done}; "
                f"{least}{self.flops / 1e12:.4g} of {self.flops_uncached / 1e12:.4g} TFLOP "
                f"({saved:.0f} % saved, at most {self.ceiling:.2f}x faster)"
            )
            if self.surplus_flops:
                chosen = self.flops - self.cached_steps * self.surplus_flops
                told += f", {chosen / 1e12:.4g} of them of tokens that were chosen"
        else:
            told = f"{self.full_steps} steps computed; {self.flops / 1e12:.4g} TFLOP"
        sizes = [
            f"{name} {size / MIB:.3g} MiB" for name, size in kept.items() if size or name == "cache"
        ]
        parts = [told, ", ".join(sizes)] if sizes else [told]
        if self.left_out_bytes:
            size = self.left_out_bytes / MIB
            parts.append(f"texts read at each step, as kept they would take {size:.4g} MiB")
        return "; ".join(parts)


def flops_of_steps(plan: Plan, costs: Costs, surplus: bool = True) -> Float[np.ndarray, "S"]:
    """FLOPs of each step, for one row of the network's batch.

    The stages that a step runs, with the fusions in front of them, less what it reuses of the
    sub-layers in them; half of it where a guide runs the condition alone.

    Args:
      plan: the caching plan.
      costs: FLOPs of the model's parts.
      surplus: with tokens that are computed and dropped.
    """
    sub, trunk = plan.sockets.sub, plan.sockets.trunk
    computed = plan.shares(surplus)
    prices = dict(costs.sublayers)
    flops = []
    for step in range(plan.steps):
        run = _stages_run(trunk, None if trunk is None else int(plan.kinds.trunk[step]), costs)
        total = sum(costs.stages(u, u + 1) for u in run)
        if sub is not None:
            shares = zip(sub.sites, computed[step], strict=True)
            total -= sum((1 - c) * prices[name] for (stage, name), c in shares if stage in run)
        flops.append(total)
    alone = plan.sockets.guide is not None and plan.kinds.guide == 0
    return np.where(alone, 0.5, 1.0) * np.array(flops, np.float64)


def _stages_run(trunk: Trunk | None, kind: int | None, costs: Costs) -> set[int]:
    every = set(range(costs.num_stages))
    if trunk is None or kind is None or kind == trunk.kinds - 1:
        return every
    if trunk.head:
        return set()
    span = trunk.spans[kind]
    return every - set(range(span.lo, span.hi))


def summarise(
    plan: Plan | None,
    steps: int,
    costs: Costs,
    rows: int,
    kept: Any = None,
    prepared: Any = None,
    digest: Any = None,
    left_out: Any = None,
    ran: Sequence[Kinds] = (),
) -> CacheSummary:
    """Counts what a run costs.

    Args:
      plan: the caching plan; None computes every step.
      steps: S.
      costs: FLOPs of the model's parts for one network row.
      rows: network batch B, doubled by guidance.
      kept: shapes and types of what goes from step to step.
      prepared: of what is made for each before the first.
      digest: of what is made of the condition alone.
      left_out: of that, where it is not kept.
      ran: of a method that decides, what each of some batches has run, as `Sampled.kinds` tells it:
        then these are counted, call by call. Where samples, or condition and no condition, decide
        for themselves, each of them makes a call at each step.
    """
    full = rows * costs.total()
    sizes: dict[str, Any] = {
        "cache_bytes": bytes_of(kept),
        "prepared_bytes": bytes_of(prepared),
        "digest_bytes": bytes_of(digest),
        "left_out_bytes": bytes_of(left_out),
    }
    if plan is None:
        return CacheSummary(
            full_steps=steps,
            cached_steps=0,
            full_flops=full,
            cached_flops=float(full),
            **sizes,
        )
    decides = plan.sockets.decision is not None
    if decides and ran:
        return _as_run(plan, costs, rows, ran, sizes)
    reuse = plan.reuse
    cached, chosen = (rows * flops_of_steps(plan, costs, s)[reuse] for s in (True, False))
    return CacheSummary(
        full_steps=int(np.sum(~reuse)),
        cached_steps=int(np.sum(reuse)),
        full_flops=full,
        cached_flops=float(cached.mean()) if len(cached) else float(full),
        open=decides,
        surplus_flops=float((cached - chosen).mean()) if len(cached) else 0.0,
        **sizes,
    )


def _as_run(
    plan: Plan, costs: Costs, rows: int, ran: Sequence[Kinds], sizes: dict[str, Any]
) -> CacheSummary:
    """The calls that batches of so many rows have made; a kind of step costs the same at all."""
    computed = np.stack([np.asarray(kinds.trunk) == 1 for kinds in ran])
    of_a_call = rows * len(ran) * plan.steps // computed.size
    reused = flops_of_steps(plan, costs)[plan.kinds.trunk == 0]
    full = of_a_call * costs.total()
    return CacheSummary(
        full_steps=int(computed.sum()),
        cached_steps=int((~computed).sum()),
        full_flops=full,
        cached_flops=float(of_a_call * reused[0]) if len(reused) else float(full),
        **sizes,
    )


def bytes_of(tree: Any) -> int:
    """Of all arrays of a tree, or of their shapes and types."""
    return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
