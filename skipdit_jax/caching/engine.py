"""The caching engine: one network call of which parts may come from earlier ones.

Every method is this function under a plan. Its state is a value that goes in and comes out; all its
arrays are [R,B,...], R values of the past of B rows.
"""

from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Key

from skipdit_jax.caching import deciding, rings, sublayers, trunk
from skipdit_jax.caching.choose import choose
from skipdit_jax.caching.plan import Kinds, Ring, Rows, Sockets, SubRows
from skipdit_jax.caching.rings import Access, Part
from skipdit_jax.contracts import StagedModel
from skipdit_jax.typing import Condition, Latents, Timesteps

EMPTY = Sockets()


class State(NamedTuple):
    """What is kept from call to call; () for an empty socket."""

    trunk: Any = ()
    sub: Any = ()
    decision: Any = ()


def evaluate(
    model: StagedModel,
    sockets: Sockets,
    x: Latents,
    t: Timesteps,
    condition: Condition,
    state: State,
    kinds: Kinds,
    rows: Rows,
    prepared: Any = None,
    part: Part | None = None,
    counted: Any = None,
    keys: Key[Array, "B"] | None = None,
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
      prepared: of this step, see `StagedModel.prepare`.
      part: which rows of what is kept are those of x; None if all.
      counted: which samples count where a method decides, see `decisions.Movement`.
      keys: of each row, for sockets that draw (`Sockets.draws`).

    Returns:
      The prediction [B,H,W,C_out], and the state for the next step.
    """
    if sockets.decision is not None:
        kept = state.trunk, state.decision
        out, (trunk_state, live) = deciding.evaluate(
            model, sockets, x, t, condition, kept, kinds, rows, counted
        )
        return out, State(trunk_state, state.sub, live)
    socket = sockets.trunk
    access = Access(Ring() if socket is None else socket.ring, rows.trunk, part)

    def network(state: State) -> tuple[Array, State]:
        made = () if prepared is None else (prepared,)
        h, c = model.embed(x, t, condition, *made)
        if sockets.sub is None:
            run = sublayers.plain_runner(model, c)
        else:
            row = SubRows() if rows.sub is None else rows.sub
            run = sublayers.runner(model, c, sockets.sub, kinds.sub, row, part, keys)
        kept, slots, _ = state
        if socket is None or socket.head:
            h, _, slots = run(h, {}, slots, 0, model.num_stages)
        else:
            stages = trunk.StagedTrunk(socket, run, model.num_stages, model.num_skips, access)
            h, kept, slots = stages(h, kept, slots, kinds.trunk)
        return model.head(h, c), State(kept, slots)

    if socket is None or not socket.head:
        return network(state)

    def reuse(state: State) -> tuple[Array, State]:
        return access.read(state.trunk), state

    def compute(state: State) -> tuple[Array, State]:
        value, new = network(state)
        return value, new._replace(trunk=access.write(state.trunk, value))

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
    if sockets.decision is not None:
        state = state._replace(decision=deciding.empty(model, sockets, x, t, condition))
    return state
