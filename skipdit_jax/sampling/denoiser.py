"""Between network and sampler: binds condition, guidance and caching into the call of a step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from skipdit_jax.caching.choose import choose
from skipdit_jax.caching.engine import EMPTY, State, empty_state, evaluate
from skipdit_jax.caching.plan import Kinds, Rows, Sockets
from skipdit_jax.contracts import StagedModel
from skipdit_jax.sampling.guidance import doubled, mix
from skipdit_jax.typing import Condition, Latents, Scalar


class Denoiser(NamedTuple):
    """What a sampling loop calls.

    Attributes:
      call: (x [B,..,C], t, guidance scale, state, kinds, rows) -> (model output [B,..,C_out],
        state).
      state: what to start from, of zeros; its rows are both halves of a guided batch.
    """

    call: Callable[[Latents, Scalar, Scalar, Any, Kinds, Rows], tuple[Array, Any]]
    state: Any


class Guided(NamedTuple):
    """What is kept under a guide: the network's state, and the guide's own."""

    network: State
    guide: Any


def make_denoiser(
    model: StagedModel,
    x: Latents,
    condition: Condition,
    null_condition: Condition | None = None,
    guided_channels: int | None = None,
    sockets: Sockets = EMPTY,
) -> Denoiser:
    """Makes the call of a sampling loop.

    Args:
      model: the backbone with its parameters.
      x: latents [B,..,C]; only shape and type matter.
      condition: leaves [B,...].
      null_condition: "no condition", same structure; given, calls run [cond; uncond].
      guided_channels: how many channels guidance mixes; None all C of x.
      sockets: what is cached.
    """
    guided = null_condition is not None
    channels = x.shape[-1] if guided_channels is None else min(guided_channels, x.shape[-1])
    both = _join(condition, null_condition) if guided else condition
    rows_of = doubled if guided else lambda x: x

    def network(x: Latents, t: Scalar, condition: Condition, *rest: Any) -> tuple[Array, State]:
        t_rows = jnp.broadcast_to(t, x.shape[:1])
        return evaluate(model, sockets, x, t_rows, condition, *rest)

    def plain(
        x: Latents, t: Scalar, scale: Scalar, state: State, kinds: Kinds, rows: Rows
    ) -> tuple[Array, State]:
        out, state = network(rows_of(x), t, both, state, kinds, rows)
        return (mix(out, scale, channels) if guided else out), state

    rows = rows_of(x)
    start = empty_state(model, sockets, rows, jnp.zeros(rows.shape[:1], jnp.float32), both)
    if sockets.guide is None:
        return Denoiser(plain, start)
    one = jax.eval_shape(model.embed, x, jnp.zeros(len(x), jnp.float32), condition)
    call = _under_guide(sockets.guide, network, condition, both, channels)
    own = sockets.guide.initialise(jax.eval_shape(model.head, *one))
    return Denoiser(call, Guided(start, own))


def _under_guide(
    guide: Any,
    network: Callable[..., tuple[Array, State]],
    condition: Condition,
    both: Condition,
    channels: int,
) -> Callable[..., tuple[Array, Guided]]:
    """The call of a step whose guide says which halves run; see `Denoiser`."""

    def call(
        x: Latents, t: Scalar, scale: Scalar, state: Guided, kinds: Kinds, rows: Rows
    ) -> tuple[Array, Guided]:
        def alone(state: Guided) -> tuple[Array, Guided]:
            half = guide.take(state.network, len(x))
            cond, half = network(x, t, condition, half, kinds, rows)
            uncond, own = guide.alone(cond, state.guide, rows.guide)
            out = cond if uncond is None else mix(jnp.concatenate([cond, uncond]), scale, channels)
            return out, Guided(guide.put(state.network, half), own)

        def together(state: Guided) -> tuple[Array, Guided]:
            out, inner = network(doubled(x), t, both, state.network, kinds, rows)
            own = guide.both(*jnp.split(out, 2), state.guide, rows.guide)
            return mix(out, scale, channels), Guided(inner, own)

        return choose(kinds.guide, (alone, together), state)

    return call


def _join(condition: Condition, null_condition: Condition) -> Condition:
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), condition, null_condition)
