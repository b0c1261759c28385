"""Between network and sampler: binds condition, guidance and trunk into the call of a step."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from skipdit_jax.caching.engine import empty_cache, evaluate
from skipdit_jax.caching.plan import Trunk
from skipdit_jax.contracts import StagedModel
from skipdit_jax.sampling.guidance import doubled, mix
from skipdit_jax.typing import Condition, Flag, Latents, Scalar

WHOLE = Trunk(front=0, back=0)


class Denoiser(NamedTuple):
    """What a sampling loop calls.

    Attributes:
      call: (x [B,..,C], t, guidance scale, cache, reuse) -> (model output [B,..,C_out], cache).
      cache: zeros [B,N,D] to start from (B counts both halves of a guided batch), or None if
        nothing is cached.
    """

    call: Callable[[Latents, Scalar, Scalar, Array | None, Flag], tuple[Array, Array | None]]
    cache: Array | None


def make_denoiser(
    model: StagedModel,
    x: Latents,
    condition: Condition,
    null_condition: Condition | None = None,
    guided_channels: int | None = None,
    trunk: Trunk | None = None,
) -> Denoiser:
    """Makes the call of a sampling loop.

    Args:
      model: the backbone with its parameters.
      x: latents [B,..,C]; only shape and type matter.
      condition: leaves [B,...].
      null_condition: "no condition", same structure; given, every call runs [cond; uncond].
      guided_channels: how many channels guidance mixes; None all C of x.
      trunk: what the cache stands for; None caches nothing.
    """
    guided = null_condition is not None
    channels = x.shape[-1] if guided_channels is None else min(guided_channels, x.shape[-1])
    both = _join(condition, null_condition) if guided else condition

    def call(
        x: Latents, t: Scalar, scale: Scalar, cache: Array | None, reuse: Flag
    ) -> tuple[Array, Array | None]:
        rows = doubled(x) if guided else x
        t_rows = jnp.broadcast_to(t, rows.shape[:1])
        if trunk is None:
            out, _ = evaluate(model, WHOLE, rows, t_rows, both, cache, False)
        else:
            out, cache = evaluate(model, trunk, rows, t_rows, both, cache, reuse)
        return (mix(out, scale, channels) if guided else out), cache

    if trunk is None:
        return Denoiser(call, None)
    rows = doubled(x) if guided else x
    cache = empty_cache(model, rows, jnp.zeros(rows.shape[:1], jnp.float32), both)
    return Denoiser(call, jnp.zeros(cache.shape, cache.dtype))


def _join(condition: Condition, null_condition: Condition) -> Condition:
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), condition, null_condition)
