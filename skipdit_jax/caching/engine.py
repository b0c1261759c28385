"""The caching engine: one network call of which parts may come from earlier ones.

Every method is this function under a plan. Its state is a value that goes in and comes out; all its
arrays are [R,B,...], R values of the past of B rows.
"""

from typing import Any, NamedTuple

import jax
from jaxtyping import Array

from skipdit_jax.caching import rings, sublayers, trunk
from skipdit_jax.caching.choose import choose
from skipdit_jax.caching.plan import Kinds, Rows, Sockets, SubRows
from skipdit_jax.contracts import StagedModel
from skipdit_jax.typing import Condition, Latents, Timesteps

EMPTY = Sockets()


class State(NamedTuple):
    """What is kept from call to call; () for an empty socket."""

    trunk: Any = ()
    sub: Any = ()


def evaluate(
    model: StagedModel,
    sockets: Sockets,
    x: Latents,
    t: Timesteps,
    condition: Condition,
    state: State,
    kinds: Kinds,
    rows: Rows,
) -> tuple[Array, State]:
    """One network call under the sockets `trunk` and `sub` of a plan.

    Args:
      model: the backbone with its parameters.
      sockets: what is cached.
      x: network input [B,H,W,C].
      t: model timesteps [B].
      condition: what the family conditions on, e.g. labels [B].
      state: as the call before left it, or `empty_state`.
      kinds: of this step; see `choose`. They must not be a batch.
      rows: numbers of this step.

    Returns:
      The prediction [B,H,W,C_out], and the state for the next step.
    """

    def network(state: State) -> tuple[Array, State]:
        h, c = model.embed(x, t, condition)
        if sockets.sub is None:
            run = sublayers.plain_runner(model, c)
        else:
            row = SubRows() if rows.sub is None else rows.sub
            run = sublayers.runner(model, c, sockets.sub, kinds.sub, row)
        kept, slots = state
        if sockets.trunk is None or sockets.trunk.head:
            h, _, slots = run(h, {}, slots, 0, model.num_stages)
        else:
            stages = trunk.StagedTrunk(
                sockets.trunk, run, model.num_stages, model.num_skips, rows.trunk
            )
            h, kept, slots = stages(h, kept, slots, kinds.trunk)
        return model.head(h, c), State(kept, slots)

    if sockets.trunk is None or not sockets.trunk.head:
        return network(state)
    ring, numbers = sockets.trunk.ring, rows.trunk

    def reuse(state: State) -> tuple[Array, State]:
        value = rings.read(ring, state.trunk, numbers)
        return value, state._replace(trunk=rings.kept(ring, state.trunk, value, numbers))

    def compute(state: State) -> tuple[Array, State]:
        value, new = network(state)
        return value, new._replace(trunk=rings.write(ring, state.trunk, value, numbers))

    return choose(kinds.trunk, (reuse, compute), state)


def empty_state(
    model: StagedModel, sockets: Sockets, x: Latents, t: Timesteps, condition: Condition
) -> State:
    """The state before the first call, of zeros, for inputs of these shapes."""
    state = State()
    if sockets.trunk is not None:
        h, c = jax.eval_shape(model.embed, x, t, condition)
        if sockets.trunk.head:
            kept = rings.empty(sockets.trunk.ring, jax.eval_shape(model.head, h, c))
        else:
            kept = trunk.empty(sockets.trunk, h, model.num_stages, model.num_skips)
        state = state._replace(trunk=kept)
    if sockets.sub is not None:
        state = state._replace(sub=sublayers.empty(model, sockets.sub, x, t, condition))
    return state
