"""The trunk socket: which stages a step runs, and what stands in for the others.

Skip-Cache is one span [k, U - k) whose value replaces h; methods for models without skips keep
what their spans added to h.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import jax
from jaxtyping import Array

from skipdit_jax.caching import rings
from skipdit_jax.caching.choose import choose
from skipdit_jax.caching.plan import Ring, Span, Trunk
from skipdit_jax.caching.rings import Access
from skipdit_jax.typing import Hidden, Index, Skips

Slots = Any
Runner = Callable[[Hidden, Skips, Slots, int, int], tuple[Hidden, Skips, Slots]]
"""(h, skips, slots of sub-layers, lo, hi) -> the same behind stages lo..hi-1."""

Value = dict[str, Array]
"""What a span keeps: "h" and, where later stages fuse outputs of its stages, "skip3"."""


class StagedTrunk:
    """A trunk with the stages it leaves out, for one network call (trace time only).

    Args:
      trunk: which spans.
      run: runs stages.
      num_stages: U.
      num_skips: K.
      access: to its rings at this step.
    """

    def __init__(self, trunk: Trunk, run: Runner, num_stages: int, num_skips: int, access: Access):
        self.trunk, self.run, self.access = trunk, run, access
        self.num_stages, self.num_skips = num_stages, num_skips
        self.lo = min(span.lo for span in trunk.spans)
        self.hi = max(span.hi for span in trunk.spans)

    def __call__(
        self, h: Hidden, state: tuple[Any, ...], slots: Slots, index: Index
    ) -> tuple[Hidden, tuple[Any, ...], Slots]:
        """Runs all stages but those of the span that `index` reuses."""
        h, skips, slots = self.run(h, {}, slots, 0, self.lo)
        return self.behind(h, skips, state, slots, index)

    def behind(
        self, h: Hidden, skips: Skips, state: tuple[Any, ...], slots: Slots, index: Index
    ) -> tuple[Hidden, tuple[Any, ...], Slots]:
        """The same from the first stage of a span on, given what enters it."""
        branches = [partial(self._reuse, skips, span) for span in range(len(self.trunk.spans))]
        branches.append(partial(self._compute, skips))
        if self._bare:
            branches = [partial(_state_only, branch) for branch in branches]
            state, slots = choose(index, branches, h, state, slots)
            h, pushed = self._take(0, state)
        else:
            h, pushed, state, slots = choose(index, branches, h, state, slots)
        h, _, slots = self.run(h, {**skips, **pushed}, slots, self.hi, self.num_stages)
        return h, state, slots

    @property
    def _bare(self) -> bool:
        """Whether the state alone tells what goes on: then nothing else leaves the conditional."""
        spans, ring = self.trunk.spans, self.trunk.ring
        return len(spans) == 1 and not spans[0].residual and ring == Ring()

    def _reuse(self, skips: Skips, number: int, h: Array, state: Any, slots: Slots) -> Any:
        """Takes span `number` from its ring, and runs what else lies between lo and hi."""
        span = self.trunk.spans[number]
        if span.lo > self.lo:
            h, skips, slots = self.run(h, skips, slots, self.lo, span.lo)
        value, pushed = self._take(number, state)
        h = h + value if span.residual else value
        skips = {**skips, **pushed}
        if span.hi < self.hi:
            h, skips, slots = self.run(h, skips, slots, span.hi, self.hi)
        return h, self._needed(skips), state, slots

    def _compute(self, skips: Skips, h: Array, state: Any, slots: Slots) -> Any:
        """Runs everything between lo and hi, and renews what is kept of every span."""
        passed = {self.lo: h}
        edges = sorted({edge for span in self.trunk.spans for edge in (span.lo, span.hi)})
        for lo, hi in pairwise(edges):
            h, skips, slots = self.run(h, skips, slots, lo, hi)
            passed[hi] = h
        for number, span in enumerate(self.trunk.spans):
            left = passed[span.hi]
            value = self._named(span, left - passed[span.lo] if span.residual else left, skips)
            new = jax.tree.map(self.access.write, state[number], value)
            state = (*state[:number], new, *state[number + 1 :])
        return h, self._needed(skips), state, slots

    def _needed(self, skips: Skips) -> Skips:
        """Those that stages behind the conditional fuse, of those made inside."""
        inside = Span(self.lo, self.hi).feeds(self.num_stages, self.num_skips)
        return {u: skips[u] for u in inside}

    def _named(self, span: Span, h: Array, skips: Skips) -> Value:
        """What is kept of a span; its last stage's output is not kept twice."""
        pushed = span.feeds(self.num_stages, self.num_skips) if span.skips else ()
        own = {} if span.hi - 1 in pushed else {"h": h}
        return {**own, **{f"skip{u}": skips[u] for u in pushed}}

    def _take(self, number: int, state: Any) -> tuple[Array, Skips]:
        """What stands for h and for skips in a reused span."""
        value = {name: self.access.read(ring) for name, ring in state[number].items()}
        pushed = {int(n.removeprefix("skip")): v for n, v in value.items() if n != "h"}
        h = value["h"] if "h" in value else pushed[self.trunk.spans[number].hi - 1]
        return h, pushed


def _state_only(branch: Callable[..., Any], h: Array, state: Any, slots: Slots) -> Any:
    return branch(h, state, slots)[2:]


def empty(trunk: Trunk, h: jax.ShapeDtypeStruct, num_stages: int, num_skips: int) -> Any:
    """The rings of all spans, of zeros."""

    def of_span(span: Span) -> Value:
        pushed = span.feeds(num_stages, num_skips) if span.skips else ()
        own = () if span.hi - 1 in pushed else ("h",)
        return {name: rings.empty(trunk.ring, h) for name in (*own, *(f"skip{u}" for u in pushed))}

    return tuple(of_span(span) for span in trunk.spans)
