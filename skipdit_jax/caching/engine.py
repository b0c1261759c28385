"""The trunk engine: one network call whose middle may come from a cache.

Every block-range method is this function. Skip-Cache is (front = back = k, absolute value); methods
for models without skips keep the residual of the middle instead.
"""

import jax
from jaxtyping import Array

from skipdit_jax.caching.choose import choose
from skipdit_jax.caching.plan import Trunk
from skipdit_jax.contracts import StagedModel
from skipdit_jax.typing import Condition, Flag, Hidden, Latents, Timesteps


def evaluate(
    model: StagedModel,
    trunk: Trunk,
    x: Latents,
    t: Timesteps,
    condition: Condition,
    cache: Hidden | None,
    reuse: Flag,
) -> tuple[Array, Hidden]:
    """One network call that takes its deep part fresh or from the cache.

    Args:
      model: the backbone with its parameters.
      trunk: which stages the cache stands for.
      x: network input [B,H,W,C].
      t: model timesteps [B].
      condition: what the family conditions on, e.g. labels [B].
      cache: the last full step's value, shaped like a hidden state; None if `reuse` is False.
      reuse: True takes the cache; see `choose`. It must not be a batch.

    Returns:
      The prediction [B,H,W,C_out], and the cache for the next step.
    """
    lo, hi = trunk.front, model.num_stages - trunk.back
    h, c = model.embed(x, t, condition)
    h, skips = model.run(h, c, {}, 0, lo)

    def fresh(h: Array, _cache: Array | None) -> Array:
        deep, _ = model.run(h, c, skips, lo, hi)
        return deep - h if trunk.residual else deep

    cache = choose(reuse, lambda _h, cache: cache, fresh, h, cache)
    h, _ = model.run(h + cache if trunk.residual else cache, c, skips, hi, model.num_stages)
    return model.head(h, c), cache


def empty_cache(
    model: StagedModel, x: Latents, t: Timesteps, condition: Condition
) -> jax.ShapeDtypeStruct:
    """Shape and type of the cache for these inputs, without computing anything."""
    return jax.eval_shape(model.embed, x, t, condition)[0]
