"""Between network and sampler: binds condition, guidance and caching into the call of a step."""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from skipdit_jax.caching.choose import choose
from skipdit_jax.caching.decisions import Told
from skipdit_jax.caching.engine import EMPTY, State, empty_state, evaluate
from skipdit_jax.caching.plan import Kinds, Rows, Sockets
from skipdit_jax.contracts import StagedModel
from skipdit_jax.sampling.guidance import Strength, doubled, mix
from skipdit_jax.typing import Condition, Index, Latents, Scalar


def _nothing(t: Float[Array, "S"]) -> None:
    return None


class Denoiser(NamedTuple):
    """What a sampling loop calls.

    Attributes:
      call: (x [B,..,C], t, guidance scale, state, kinds, rows, prepared) -> (model output
        [B,..,C_out], state).
      state: what to start from, of zeros; its rows are both halves of a guided batch.
      prepare: t [S] -> what a call can be given as `prepared`, leaves [S,...]; or None.
      digest: what was made of the condition before the first step; None: nothing.
      told: state behind a step -> what was decided in it; None where nothing is.
    """

    call: Callable[[Latents, Scalar, Scalar | Strength, Any, Kinds, Rows, Any], tuple[Array, Any]]
    state: Any
    prepare: Callable[[Float[Array, "S"]], Any] = _nothing
    digest: Any = None
    told: Callable[[Any], Told] | None = None


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
    hoist: bool = False,
    counted: Bool[Array, "B"] | None = None,
    keys: Key[Array, "B"] | None = None,
) -> Denoiser:
    """Makes the call of a sampling loop.

    Args:
      model: the backbone with its parameters.
      x: latents [B,..,C]; only shape and type matter.
      condition: leaves [B,...].
      null_condition: "no condition", same structure; given, calls run [cond; uncond].
      guided_channels: how many channels guidance mixes; None all C of x.
      sockets: what is cached.
      hoist: make all that depends on the condition alone now, for all calls
        (`StagedModel.digest`); where the model has no such thing it means nothing.
      counted: which samples count where a method decides; the others only fill up a batch. None:
        all.
      keys: of each sample, for sockets that draw (`Sockets.draws`): both halves draw the same.
    """
    guided = null_condition is not None
    channels = x.shape[-1] if guided_channels is None else min(guided_channels, x.shape[-1])
    both = _join(condition, null_condition) if guided else condition
    digest = model.digest(both) if hoist and model.digest is not None else None
    if digest is not None:
        both, condition = digest, jax.tree.map(lambda a: a[: len(x)], digest)
    rows_of = doubled if guided else lambda x: x

    def network(x: Latents, t: Scalar, condition: Condition, *rest: Any) -> tuple[Array, State]:
        t_rows = jnp.broadcast_to(t, x.shape[:1])
        own = keys if keys is None or len(keys) == len(x) else jnp.concatenate([keys, keys])
        return evaluate(model, sockets, x, t_rows, condition, *rest, counted=counted, keys=own)

    def plain(
        x: Latents,
        t: Scalar,
        scale: Scalar | Strength,
        state: State,
        kinds: Kinds,
        rows: Rows,
        prepared: Any,
    ) -> tuple[Array, State]:
        out, state = network(rows_of(x), t, both, state, kinds, rows, prepared)
        return (mix(out, scale, channels) if guided else out), state

    if guided and sockets.decision is not None and sockets.decision.separate:
        start = empty_state(model, sockets, x, jnp.zeros(len(x), jnp.float32), condition)
        call = _apart(network, both, channels)
        return Denoiser(call, (start, start), digest=digest, told=_told_apart)
    rows = rows_of(x)
    start = empty_state(model, sockets, rows, jnp.zeros(rows.shape[:1], jnp.float32), both)
    told = None if sockets.decision is None else _told
    prepare = partial(_prepared, model, both, len(rows)) if sockets.sub else _nothing
    if sockets.guide is None:
        return Denoiser(plain, start, prepare, digest, told)
    one = jax.eval_shape(model.embed, x, jnp.zeros(len(x), jnp.float32), condition)
    call = _under_guide(sockets, network, condition, both, channels)
    own = sockets.guide.initialise(jax.eval_shape(model.head, *one))
    return Denoiser(call, Guided(start, own), prepare, digest)


def _told(state: State) -> Told:
    return state.decision.told


def _told_apart(states: tuple[State, State]) -> Told:
    """Of the call with the condition and of that without, [2]."""
    return jax.tree.map(lambda *both: jnp.stack(both), *map(_told, states))


def _apart(
    network: Callable[..., tuple[Array, State]], both: Condition, channels: int
) -> Callable[..., tuple[Array, tuple[State, ...]]]:
    """The call of a step whose halves decide for themselves; see `Denoiser`."""

    def call(
        x: Latents,
        t: Scalar,
        scale: Scalar | Strength,
        states: tuple[State, State],
        kinds: Kinds,
        rows: Rows,
        prepared: Any,
    ) -> tuple[Array, tuple[State, ...]]:
        made = []
        for half, state in enumerate(states):
            condition = jax.tree.map(lambda a: jnp.split(a, 2)[half], both)  # noqa: B023
            made.append(network(x, t, condition, state, kinds, rows, prepared))
        out = jnp.concatenate([out for out, _ in made])
        return mix(out, scale, channels), tuple(state for _, state in made)

    return call


def _prepared(model: StagedModel, condition: Condition, rows: int, t: Float[Array, "S"]) -> Any:
    """What the model makes of the timesteps and the condition alone, leaves [S,B,...] or None.

    Sub-layers that are reused leave a step little to do but to read the weights of modulation, a
    third of DiT-XL's; for all steps together they are read once (docs/notes.md, Modulation before
    the loop).
    """
    if model.prepare is None:
        return None
    steps = len(t)
    each = jax.tree.map(lambda a: jnp.tile(a, (steps,) + (1,) * (a.ndim - 1)), condition)
    made = model.prepare(jnp.repeat(t, rows), each)
    return jax.tree.map(lambda a: a.reshape(steps, rows, *a.shape[1:]), made)


def _under_guide(
    sockets: Sockets,
    network: Callable[..., tuple[Array, State]],
    condition: Condition,
    both: Condition,
    channels: int,
) -> Callable[..., tuple[Array, Guided]]:
    """The call of a step whose guide says which halves run; see `Denoiser`."""
    guide = sockets.guide

    def call(
        x: Latents,
        t: Scalar,
        scale: Scalar | Strength,
        state: Guided,
        kinds: Kinds,
        rows: Rows,
        prepared: Any,
    ) -> tuple[Array, Guided]:
        def alone(kinds: Kinds, state: Guided) -> tuple[Array, Guided]:
            ready, part = jax.tree.map(lambda a: a[: len(x)], prepared), guide.part(len(x))
            cond, inner = network(x, t, condition, state.network, kinds, rows, ready, part)
            uncond, own = guide.alone(cond, state.guide, rows.guide)
            out = cond if uncond is None else mix(jnp.concatenate([cond, uncond]), scale, channels)
            return out, Guided(inner, own)

        def together(kinds: Kinds, state: Guided) -> tuple[Array, Guided]:
            out, inner = network(doubled(x), t, both, state.network, kinds, rows, prepared)
            own = guide.both(*jnp.split(out, 2), state.guide, rows.guide)
            return mix(out, scale, channels), Guided(inner, own)

        index, every = _joint(sockets, kinds)
        branches = [partial((alone, together)[one.guide], one) for one in every]
        return choose(index, branches, state)

    return call


def _joint(sockets: Sockets, kinds: Kinds) -> tuple[Index, list[Kinds]]:
    """The number of a step among all joint kinds, and these: fixed numbers, the guide's fastest.

    So steps that only reuse come first, of whichever half: were the kinds of the network chosen
    inside those of the guide, XLA on a GPU would copy every ring four times a step.
    """
    counts = sockets.kinds()
    filled = [name for name in ("trunk", "sub", "guide") if getattr(counts, name) is not None]
    index: Index = 0
    for name in filled:
        index = index * getattr(counts, name) + getattr(kinds, name)
    every = product(*(range(getattr(counts, name)) for name in filled))
    return index, [Kinds(**dict(zip(filled, numbers, strict=True))) for numbers in every]


def _join(condition: Condition, null_condition: Condition) -> Condition:
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), condition, null_condition)
