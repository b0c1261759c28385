"""The trunk engine: one network call whose middle may come from a cache.

Every block-range method is this function. Skip-Cache is (front = back = k, absolute value); methods
for models without skips keep the residual of the middle instead.
"""

from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from skipdit_jax.typing import Condition, Flag, Hidden, Latents, Plan, StagedModel, Timesteps, Trunk


def check_plan(plan: Plan, num_stages: int, num_skips: int) -> None:
    """Raises ValueError if a model of U stages and K skips cannot follow the plan."""
    reuse, trunk = plan
    if not len(reuse) or reuse[0]:
        raise ValueError("cache plan: step 0 must be computed in full, there is nothing to reuse")
    if not trunk.residual and trunk.front != trunk.back:
        raise ValueError("cache plan: an absolute value needs as many front as back stages")
    if not trunk.residual and not num_skips:
        raise ValueError("Skip-Cache needs long skips: choose a -skip model or no cache")
    if trunk.front + trunk.back >= num_stages:
        raise ValueError(
            f"cache plan: branch {trunk.front} leaves nothing to save in {num_stages} stages, "
            f"wanted 1 <= branch < {num_stages / 2:g}"
        )
    if min(trunk.back, num_skips) > trunk.front:
        raise ValueError(
            f"cache plan: the last {trunk.back} stages need skips that the first {trunk.front} "
            f"of {num_skips} do not make"
        )


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
      reuse: True takes the cache. A traced scalar makes one `lax.cond` around the deep part; a
        Python bool leaves only the chosen side in the program. It must not be a batch: under vmap
        the cond would become a select and both sides would run.

    Returns:
      The prediction [B,H,W,C_out], and the cache for the next step.
    """
    lo, hi = trunk.front, model.num_stages - trunk.back
    h, c = model.embed(x, t, condition)
    h, skips = model.run(h, c, {}, 0, lo)

    def fresh(h: Array, _cache: Array | None) -> Array:
        deep, _ = model.run(h, c, skips, lo, hi)
        return deep - h if trunk.residual else deep

    cache = _choose(reuse, lambda _h, cache: cache, fresh, h, cache)
    h, _ = model.run(h + cache if trunk.residual else cache, c, skips, hi, model.num_stages)
    return model.head(h, c), cache


def _choose(flag: Flag, yes: Any, no: Any, *operands: Array | None) -> Array:
    if isinstance(flag, bool | np.bool_):
        return (yes if flag else no)(*operands)
    return jax.lax.cond(flag, yes, no, *operands)


def empty_cache(
    model: StagedModel, x: Latents, t: Timesteps, condition: Condition
) -> jax.ShapeDtypeStruct:
    """Shape and type of the cache for these inputs, without computing anything."""
    return jax.eval_shape(model.embed, x, t, condition)[0]
