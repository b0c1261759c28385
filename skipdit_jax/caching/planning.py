"""What a method calls to make its plan: it fills sockets, counts kinds, refuses what cannot be."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Int

from skipdit_jax.caching.decisions import Decision, DecisionRows
from skipdit_jax.caching.forecasts import Forecast, Forecaster, hold
from skipdit_jax.caching.guides import Guide
from skipdit_jax.caching.plan import (
    Kinds,
    Plan,
    Rows,
    Run,
    Site,
    Sockets,
    Span,
    Sub,
    SubRows,
    Trunk,
)
from skipdit_jax.typing import StepFlags

MAX_KINDS = 4  # kinds of step of sub-layers under one conditional; more take one for each sub-layer


def reuse_middle(
    run: Run,
    reuse: StepFlags,
    front: int,
    back: int,
    *,
    residual: bool,
    forecast: Forecaster = hold,
) -> Plan:
    """Plans the reuse of stages [front, U - back).

    Args:
      run: of the method.
      reuse: bool [S], True where they are reused.
      front: stages that always run before them.
      back: stages that always run behind them.
      residual: see `Span`.
      forecast: what stands for them.

    Raises:
      ValueError: nothing would be left out, or skips would be missing.
    """
    if front + back >= run.num_stages:
        raise ValueError(
            f"cache plan: branch {front} leaves nothing to save in {run.num_stages} stages, "
            f"wanted 1 <= branch < {run.num_stages / 2:g}"
        )
    if min(back, run.num_skips) > front:
        raise ValueError(
            f"cache plan: the last {back} stages need skips that the first {front} of "
            f"{run.num_skips} do not make"
        )
    span = Span(front, run.num_stages - back, residual=residual)
    return reuse_spans(run, np.where(reuse, 0, 1), (span,), forecast=forecast)


def reuse_spans(
    run: Run, kinds: Int[np.ndarray, "S"], spans: Sequence[Span], *, forecast: Forecaster = hold
) -> Plan:
    """Plans the reuse of one of some ranges of stages at a step.

    Args:
      run: of the method.
      kinds: int [S], the number of the span that is reused, or len(spans) for none.
      spans: the ranges.
      forecast: what stands for them; the steps that reuse none renew all.

    Raises:
      ValueError: skips would be missing, or there is nothing to reuse at the first step.
    """
    for span in spans:
        if not span.skips and (lost := span.feeds(run.num_stages, run.num_skips)):
            raise ValueError(
                f"cache plan: stages {span.lo} to {span.hi - 1} cannot be reused: later stages "
                f"need the skip of stage {lost[0]}, wanted a model without skips"
            )
    kinds = np.array(kinds, np.int32)
    kinds[list(run.restarts)] = len(spans)
    ring, rows = _forecast(run, kinds == len(spans), forecast)
    sockets = Sockets(trunk=Trunk(tuple(spans), ring))
    return Plan(sockets, Kinds(trunk=kinds), Rows(trunk=rows))


def reuse_output(run: Run, reuse: StepFlags, *, forecast: Forecaster = hold) -> Plan:
    """Plans the reuse of the network's output: at these steps nothing runs at all."""
    kinds = Kinds(trunk=np.where(reuse, 0, 1).astype(np.int32))
    kinds.trunk[list(run.restarts)] = 1
    ring, rows = _forecast(run, kinds.trunk == 1, forecast)
    return Plan(Sockets(trunk=Trunk((), ring, head=True)), kinds, Rows(trunk=rows))


def reuse_sublayers(
    run: Run,
    computed: Bool[np.ndarray, "S sites"],
    sites: Sequence[Site],
    *,
    forecast: Forecaster = hold,
    gated: bool = False,
) -> Plan:
    """Plans the reuse of sub-layers.

    Args:
      run: of the method.
      computed: bool [S,sites], True where a site is computed.
      sites: which sub-layers; all others are computed at every step.
      forecast: what stands for them.
      gated: see `Sub`.

    Raises:
      ValueError: the model has no such sub-layers, or nothing to reuse at the first step.
    """
    check_sites(run, sites)
    computed = computed.copy()
    computed[list(run.restarts)] = True
    ring, rows = _forecasts(run, computed, forecast)
    kinds, index = _kinds(computed)
    sub = Sub(tuple(sites), kinds, ring, gated)
    flags = None if kinds else computed
    return Plan(
        Sockets(sub=sub), Kinds(sub=index if kinds else None), Rows(sub=SubRows(rows, flags))
    )


def check_sites(run: Run, sites: Sequence[Site]) -> None:
    """Raises ValueError where the model has no such sub-layers, or none are named."""
    names = {name for _, name in sites}
    if not sites or not names <= set(run.sublayers):
        raise ValueError(
            f"cache plan: found sub-layers {', '.join(run.sublayers) or 'none'} in the model, "
            f"wanted {', '.join(sorted(names)) or 'some that can be reused'}"
        )


def whole_sublayers(run: Run, computed: StepFlags, forecast: Forecaster = hold) -> Plan:
    """Plans the reuse of all sub-layers at once; see `reuse_sublayers`."""
    sites = run.sites()
    return reuse_sublayers(
        run, np.repeat(computed[:, None], len(sites), axis=1), sites, forecast=forecast
    )


def _kinds(
    computed: Bool[np.ndarray, "S sites"],
) -> tuple[tuple[tuple[bool, ...], ...], Int[np.ndarray, "S"]]:
    """The kinds of step, cheapest first, and that of each step; no kinds if there are many.

    None and all computed are always among them, so that plans of one method share a program.
    """
    ends = np.stack([np.zeros_like(computed[0]), np.ones_like(computed[0])])
    rows = np.unique(np.concatenate([ends, computed]), axis=0)
    rows = rows[np.argsort(rows.sum(axis=1), kind="stable")]
    if len(rows) > MAX_KINDS:
        return (), np.zeros(len(computed), np.int32)
    index = (computed[:, None] == rows[None]).all(axis=-1).argmax(axis=1)
    return tuple(tuple(map(bool, row)) for row in rows), index.astype(np.int32)


def _forecast(run: Run, computed: StepFlags, forecast: Forecaster) -> Forecast:
    """The forecast of a run, begun anew at each restart.

    Raises:
      ValueError: the first step is not computed.
    """
    if not len(computed) or not computed[0]:
        raise ValueError("cache plan: step 0 must be computed in full, there is nothing to reuse")
    parts = [forecast(part) for part in np.split(computed, run.restarts)]
    rows = [part.rows for part in parts]
    return parts[0]._replace(rows=jax.tree.map(lambda *columns: np.concatenate(columns), *rows))


def _forecasts(run: Run, computed: Bool[np.ndarray, "S sites"], forecast: Forecaster) -> Forecast:
    """The forecast of all sites: one for all where they are computed together."""
    if (computed == computed[:, :1]).all():
        return _forecast(run, computed[:, 0], forecast)
    each = [_forecast(run, column, forecast) for column in computed.T]
    rows = [one.rows for one in each]
    return each[0]._replace(rows=jax.tree.map(lambda *of: np.stack(of, axis=1), *rows))


def decided(plan: Plan, decision: Decision, free: StepFlags, rule: Any, probe: Any = None) -> Plan:
    """Leaves steps of a plan to a decision.

    Args:
      plan: of the trunk alone; at the free steps it reuses.
      decision: what decides in the loop.
      free: bool [S], where it does.
      rule: numbers of its rule, leaves [S,...].
      probe: the same of its probe.
    """
    sockets = plan.sockets._replace(decision=decision)
    if plan.sockets.trunk is not None:
        trunk = plan.sockets.trunk._replace(ring=decision.forecast.ring)
        sockets = sockets._replace(trunk=trunk)
    step = np.arange(plan.steps, dtype=np.int32)
    return Plan(sockets, plan.kinds, Rows(decision=DecisionRows(step, free, rule, probe)))


def together(plans: Sequence[Plan]) -> Plan:
    """One plan of several that fill different sockets.

    Raises:
      ValueError: two fill the same, or one would miss what it needs.
    """
    if len(plans) > 1 and any(plan.sockets.decision is not None for plan in plans):
        raise ValueError(
            "cache: a method that decides as it runs stands alone, wanted no other beside it and "
            "guidance at all steps"
        )
    merged = plans[0]
    for plan in plans[1:]:
        taken = [
            name
            for name in Sockets._fields
            if getattr(plan.sockets, name) is not None and getattr(merged.sockets, name) is not None
        ]
        if taken:
            raise ValueError(
                f"cache: two methods fill the socket {taken[0]!r}, wanted one for each"
            )
        merged = Plan(*(_union(a, b) for a, b in zip(merged, plan, strict=True)))
    trunk, subs = merged.sockets.trunk, merged.sockets.sub
    if trunk is not None and subs is not None and subs.ring.slots > 1:
        raise ValueError(
            "cache: a forecast of sub-layers needs them at every computed step, but another method "
            "leaves stages out, wanted hold"
        )
    return merged


def _union(ours: Any, theirs: Any) -> Any:
    pairs = zip(ours, theirs, strict=True)
    return type(ours)(*(b if a is None else a for a, b in pairs))


def entries(both: StepFlags) -> tuple[int, ...]:
    """Steps that run both halves behind one that ran the condition alone."""
    return tuple(int(step) + 1 for step in np.flatnonzero(both[1:] & ~both[:-1]))


def alone_outside(both: StepFlags) -> Plan:
    """Plans steps that run the condition alone and are not guided."""
    return Plan(Sockets(guide=Guide()), Kinds(guide=both.astype(np.int32)))


def check(plan: Plan, run: Run) -> None:
    """Raises ValueError for a plan that is none of so many steps, or whose first reuses."""
    for name, kinds in zip(Kinds._fields, plan.kinds, strict=True):
        if kinds is not None and (kinds.shape != (run.steps,) or kinds.dtype != np.int32):
            raise ValueError(
                f"cache plan: found {kinds.dtype} of shape {kinds.shape} for {name}, wanted an "
                f"int32 for each of {run.steps} steps"
            )
    if run.steps and plan.reuse[0] and plan.sockets.guide is None:
        raise ValueError("cache plan: step 0 must be computed in full, there is nothing to reuse")
