"""The socket of sub-layers: attention and MLP updates that come from an earlier step.

Gates, norms and long-skip fusions are always fresh. Where the steps are of few kinds, one
conditional stands around the stages; else each sub-layer has one of its own.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from skipdit_jax.caching import rings, tokens
from skipdit_jax.caching.choose import choose
from skipdit_jax.caching.plan import Ring, RingRows, Site, Sub, SubRows
from skipdit_jax.caching.rings import Access, Part
from skipdit_jax.caching.trunk import Runner
from skipdit_jax.contracts import Hook, StagedModel, Sublayer
from skipdit_jax.typing import Condition, Index, Latents, Skips, Timesteps

Rings = dict[Site, Array]
"""What is kept of each site."""


def plain_runner(model: StagedModel, c: Any) -> Runner:
    """Runs stages without looking at their sub-layers."""
    return lambda h, skips, slots, lo, hi: (*model.run(h, c, skips, lo, hi), slots)


def runner(
    model: StagedModel,
    c: Any,
    sub: Sub,
    index: Index | None,
    row: SubRows,
    part: Part | None = None,
    keys: Key[Array, "rows"] | None = None,
) -> Runner:
    """Runs stages with the sub-layers that this kind of step computes, the others reused."""

    def hook(number: int | None, after: Rings) -> Hook:
        if sub.tokens is not None and number is not None:
            return tokens.hook(sub, number, row, part, keys, after)
        return _hook(sub, None if number is None else sub.kinds[number], row, part, after)

    def run(h: Array, skips: Skips, slots: Rings, lo: int, hi: int) -> Any:
        if lo == hi:
            return h, skips, slots
        behind = {u for u in range(lo, hi) if model.num_stages - 1 - u >= hi}
        mine = {site: ring for site, ring in slots.items() if lo <= site[0] < hi}

        def stages(number: int | None, h: Array, mine: Rings) -> Any:
            after = dict(mine)
            h, pushed = model.run(h, c, skips, lo, hi, hook=hook(number, after))
            return h, {u: pushed[u] for u in behind & pushed.keys()}, after

        if sub.kinds:
            branches = [partial(stages, number) for number in range(len(sub.kinds))]
            assert index is not None
            h, pushed, mine = choose(index, branches, h, mine)
        else:
            h, pushed, mine = stages(None, h, mine)
        return h, {**skips, **pushed}, {**slots, **mine}

    return run


def _hook(
    sub: Sub, kind: tuple[bool, ...] | None, row: SubRows, part: Part | None, after: Rings
) -> Hook:
    """What the seam calls; leaves the rings behind this call in `after`, a dict of this trace."""
    places = {site: number for number, site in enumerate(sub.sites)}

    def hook(sublayer: Sublayer) -> tuple[Any, Array]:
        site = (sublayer.stage, sublayer.name)
        if site not in places:
            return sublayer.plain()
        number = places[site]
        access = Access(sub.ring, _ring_row(row, number), part)
        branches: list[Any] = [
            partial(_reuse, access, sublayer),
            partial(_compute, sub, access, sublayer),
        ]
        flags: Any = row.flags
        which: Any = flags[number].astype(jnp.int32) if kind is None else int(kind[number])
        if sub.ring == Ring():  # only what differs leaves the conditional
            branches = [partial(_ring_only, branch) for branch in branches]
            after[site] = choose(which, branches, after[site])
            value = access.read(after[site])
        else:
            value, after[site] = choose(which, branches, after[site])
        gate = sublayer.gate
        return (jnp.ones_like(gate) if sub.gated and gate is not None else gate), value

    return hook


def _ring_row(row: SubRows, number: int) -> RingRows | None:
    """Numbers of the ring of one site."""
    if row.ring is None or row.ring.weights.ndim == 1:
        return row.ring
    return RingRows(*(column[number] for column in row.ring))


def _reuse(access: Access, sublayer: Sublayer, ring: Array) -> tuple[Array, Array]:
    return access.read(ring, after=sublayer.x), ring


def _compute(sub: Sub, access: Access, sublayer: Sublayer, ring: Array) -> tuple[Array, Array]:
    value = _value(sub, sublayer)
    return value, access.write(ring, value)


def _ring_only(branch: Any, ring: Array) -> Array:
    return branch(ring)[1]


def _value(sub: Sub, sublayer: Sublayer) -> Array:
    """What is kept of a computed sub-layer; behind its gate in float32, as the model adds it."""
    gate, update = sublayer.plain()
    if not sub.gated:
        return update
    return update.astype(jnp.float32) if gate is None else gate * update.astype(jnp.float32)


def empty(model: StagedModel, sub: Sub, x: Latents, t: Timesteps, condition: Condition) -> Rings:
    """The rings of all sites, of zeros; the model is traced for their shapes, nothing runs.

    Raises:
      ValueError: a site that the model does not have.
    """
    found: dict[Site, jax.ShapeDtypeStruct] = {}
    worths: set[Site] = set()

    def look(sublayer: Sublayer) -> tuple[Any, Array]:
        value = _value(sub, sublayer)
        if sublayer.worth is not None:
            worths.add((sublayer.stage, sublayer.name))
        found[sublayer.stage, sublayer.name] = jax.ShapeDtypeStruct(value.shape, value.dtype)
        return sublayer.plain()

    def trace(x: Array, t: Array, condition: Condition) -> Array:
        h, c = model.embed(x, t, condition)
        return model.run(h, c, {}, 0, model.num_stages, hook=look)[0]

    jax.eval_shape(trace, x, t, condition)
    missing = [
        f"{name} of stage {stage}" for stage, name in sub.sites if (stage, name) not in found
    ]
    if missing:
        raise ValueError(f"cache: the model has no {missing[0]} that could be reused")
    kept = {site: rings.empty(sub.ring, found[site]) for site in sub.sites}
    return kept if sub.tokens is None else {**kept, **tokens.empty(sub, found, worths)}
