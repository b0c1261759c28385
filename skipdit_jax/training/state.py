"""The state of one training run: a value that goes into every step and comes out again."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from skipdit_jax.typing import Params, PRNGKey


class TrainState(NamedTuple):
    """All that a step changes, and the key that it does not.

    Attributes:
      step: optimiser steps done so far, int32 scalar.
      params: parameters the optimiser works on, as `init_params` made them.
      ema: one float32 average of `params` per decay, named by `ema_name`.
      opt_state: state of the optax transformation.
      key: root key of the run. Step n draws from `fold_in(key, n)`, so a run that stops and
        resumes draws exactly what an uninterrupted one would have drawn.
    """

    step: Int[Array, ""]
    params: Params
    ema: dict[str, Params]
    opt_state: optax.OptState
    key: PRNGKey


def ema_name(decay: float) -> str:
    """Names the average of one decay, 0.9999 -> "0.9999"; `float` of the name is the decay."""
    return repr(float(decay))


def create_state(
    params: Params,
    optimizer: optax.GradientTransformation,
    key: PRNGKey,
    ema_decays: Sequence[float] = (0.9999,),
) -> TrainState:
    """Returns the state before the first step; every average starts at the parameters.

    Args:
      params: nested dict of parameters; copied, because steps donate the state.
      optimizer: an optax transformation, see `optimizer.make_optimizer`.
      key: root key of the run.
      ema_decays: decays of the averages, each in [0, 1).

    Raises:
      ValueError: a decay is out of range or given twice.
    """
    names = [ema_name(decay) for decay in ema_decays]
    if len(set(names)) != len(names) or not all(0 <= decay < 1 for decay in ema_decays):
        raise ValueError(f"ema_decay: found {list(ema_decays)}, wanted different numbers in [0, 1)")
    copy = jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), params)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=copy,
        ema={name: as_float32(params) for name in names},
        opt_state=optimizer.init(copy),
        key=jnp.array(key, copy=True),
    )


def as_float32(params: Params) -> Params:
    """Returns a float32 copy of a parameter tree (never an alias)."""
    return jax.tree.map(lambda leaf: jnp.array(leaf, jnp.float32, copy=True), params)


def to_items(state: TrainState) -> dict[str, Any]:
    """Splits a state into the named parts of a checkpoint, so that averages can be read alone."""
    rest = {"step": state.step, "opt_state": state.opt_state, "key": _key_data(state.key)}
    return {"params": state.params, "ema": state.ema, "train": rest}


def from_items(items: dict[str, Any], like: PRNGKey) -> TrainState:
    """Joins what `to_items` split; the key becomes one of the kind of `like`, typed or raw."""
    rest = items["train"]
    key = rest["key"]
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key, impl=jax.random.key_impl(like))
    return TrainState(rest["step"], items["params"], items["ema"], rest["opt_state"], key)


def _key_data(key: PRNGKey) -> PRNGKey:
    return jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
