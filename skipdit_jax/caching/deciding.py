"""One network call of a method that decides (`decisions`): the probe before, the trunk behind."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from skipdit_jax.caching.choose import choose
from skipdit_jax.caching.decisions import Counting, DecisionRows, Live, Seen, Told
from skipdit_jax.caching.plan import Kinds, Rows, Sockets, Trunk
from skipdit_jax.caching.rings import Access
from skipdit_jax.caching.trunk import StagedTrunk
from skipdit_jax.contracts import StagedModel
from skipdit_jax.typing import Condition, Index, Latents, Skips, Timesteps

NOTHING = Told._make((np.zeros((), np.int32), np.zeros((), np.float32)))


def evaluate(
    model: StagedModel,
    sockets: Sockets,
    x: Latents,
    t: Timesteps,
    condition: Condition,
    state: tuple[Any, Live],
    kinds: Kinds,
    rows: Rows,
    counted: Counting | None = None,
) -> tuple[Array, tuple[Any, Live]]:
    """One network call; see `engine.evaluate`.

    Args:
      model: the backbone with its parameters.
      sockets: what is cached, and the decision.
      x: network input [B,..,C].
      t: model timesteps [B].
      condition: what the family conditions on.
      state: what is kept of the trunk, and of the decision.
      kinds: the plan's, of this step.
      rows: numbers of this step.
      counted: see `decisions.Movement`.

    Returns:
      The prediction [B,..,C_out], and the state for the next step.
    """
    trunk, decision = sockets.trunk, sockets.decision
    assert trunk is not None
    (kept, live), row, probe = state, rows.decision, decision.probe
    movement = decision.movement(counted)
    seen, skips = before(model, trunk, x, t, condition, row)
    saw, number = probe.measure(seen, live.probe, movement)
    verdict = decision.rule.judge(live.own, number, row, kinds.trunk)
    index = verdict.computes.astype(jnp.int32)
    ring_row, past = decision.forecast.follow(live.past, row.step, verdict.computes)
    access = Access(trunk.ring, ring_row)
    inside = probe.inside(live.probe)
    if trunk.head:
        output, kept = _whole(model, x, t, condition, kept, index, access)
    else:
        assert seen.embedded is not None
        assert seen.h is not None
        _, c = seen.embedded
        stages = StagedTrunk(
            trunk, probe.runner(model, c), model.num_stages, model.num_skips, access
        )
        h, kept, inside = stages.behind(seen.h, skips, kept, inside, index)
        output = model.head(h, c)
    renewed = probe.renew(saw, live.probe, inside, verdict.computes, output, movement)
    verdict = decision.rule.learn(verdict, probe.behind(renewed, movement), row)
    return output, (kept, Live(renewed, verdict.own, past, Told(index, verdict.compared)))


def empty(
    model: StagedModel, sockets: Sockets, x: Latents, t: Timesteps, condition: Condition
) -> Live:
    """What the decision keeps before the first call, zeros, for inputs of these shapes."""
    trunk, decision = sockets.trunk, sockets.decision
    assert trunk is not None

    def start(x: Latents, t: Timesteps, condition: Condition) -> Any:
        return decision.probe.start(before(model, trunk, x, t, condition, None)[0])

    shapes = jax.eval_shape(start, x, t, condition)
    kept = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    return Live(kept, decision.rule.start(), decision.forecast.start(), NOTHING)


def before(
    model: StagedModel,
    trunk: Trunk,
    x: Latents,
    t: Timesteps,
    condition: Condition,
    row: DecisionRows | None,
) -> tuple[Seen, Skips]:
    """What is seen before the choice: the network up to the span that can be reused."""
    if trunk.head:
        return Seen(model, x, None, None, row), {}
    h, c = model.embed(x, t, condition)
    (span,) = trunk.spans
    entering, skips = model.run(h, c, {}, 0, span.lo) if span.lo else (h, {})
    return Seen(model, x, (h, c), entering, row), skips


def _whole(
    model: StagedModel,
    x: Latents,
    t: Timesteps,
    condition: Condition,
    kept: Any,
    index: Index,
    access: Access,
) -> tuple[Array, Any]:
    """All of the network, or nothing of it: what is kept is how far its output is from x."""

    def reuse(kept: Any) -> tuple[Array, Any]:
        offset = access.read(kept)
        return offset + widened(x, offset.shape[-1]), kept

    def compute(kept: Any) -> tuple[Array, Any]:
        h, c = model.embed(x, t, condition)
        output = model.head(model.run(h, c, {}, 0, model.num_stages)[0], c)
        return output, access.write(kept, output - widened(x, output.shape[-1]))

    return choose(index, (reuse, compute), kept)


def widened(x: Latents, channels: int) -> Array:
    """X with zeros for the channels of the variance, which has no place in it."""
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, channels - x.shape[-1])])
