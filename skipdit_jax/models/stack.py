"""The only loop over stages in the library, and the view of a model that sampling takes.

The loop is unrolled when it is traced: docs/notes.md, Unrolled layers.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array

from skipdit_jax.contracts import Backbone, Hook, Seam, StagedModel
from skipdit_jax.typing import Hidden, Params, Skips

NO_REMAT = "none"
REMATS = {
    NO_REMAT: None,
    "blocks": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}
"""What a block keeps for its backward pass, by name; see `remat_block`."""

SEAM_ARGUMENT = (3,)  # of a block's call (self, h, c, seam): it is no array


def remat_block(block: type[nn.Module], remat: str) -> type[nn.Module]:
    """Makes a kind of block trade memory for time in training; parameters and output stay.

    Args:
      block: the module class of a stage.
      remat: "none" keeps all intermediates; "blocks" keeps only what enters a block and computes it
        again in the backward pass (a third more work); "dots" keeps the results of its linears too.
    """
    policy = REMATS[remat]
    if policy is None:
        return block
    return nn.remat(block, policy=policy, static_argnums=SEAM_ARGUMENT)


def run_stages(
    stage: Callable[[int, Array, Seam], Array],
    fuse: Callable[[int, Array, Array], Array],
    h: Hidden,
    skips: Skips,
    stages: range,
    *,
    num_stages: int,
    num_skips: int,
    hook: Hook | None = None,
) -> tuple[Hidden, Skips]:
    """Runs some stages of a row of U stages with K long skips.

    Stage u < K leaves its output in `skips[u]`; stage u >= U - K first fuses its input with
    `skips[U - 1 - u]`. Stages between, if any, have no skip.

    Args:
      stage: (u, h, seam) -> h.
      fuse: (j, h, skip) -> h, with j = u - (U - K) counting the fusions.
      h: what enters the first of them.
      skips: outputs of the pushing stages before it that they need.
      stages: which, lo..hi-1.
      num_stages: U.
      num_skips: K, at most U / 2.
      hook: what the stages' seams call, if anything.

    Returns:
      What leaves the last of them, and `skips` with the outputs of the pushing stages added.
    """
    first_fusion = num_stages - num_skips
    skips = dict(skips)
    for u in stages:
        if u >= first_fusion:
            h = fuse(u - first_fusion, h, skips[num_stages - 1 - u])
        h = stage(u, h, Seam(hook, u))
        if u < num_skips:
            skips[u] = h
    return h, skips


def bind(model: Backbone, params: Params) -> StagedModel:
    """The three pure calls of a backbone with its parameters bound."""

    def call(method: str, model: Backbone = model) -> Any:
        return partial(model.apply, {"params": params}, method=method)

    def run(*arguments: Any, hook: Hook | None = None) -> tuple[Hidden, Skips]:
        if hook is None:
            return call("run")(*arguments)
        return call("run", _without_remat(model))(*arguments, hook=hook)

    return StagedModel(
        embed=call("embed"),
        run=run,
        head=call("head"),
        num_stages=model.num_stages,
        num_skips=model.num_skips,
        prepare=call("prepare") if hasattr(model, "prepare") else None,
        digest=call("digest") if hasattr(model, "digest") else None,
    )


def _without_remat(model: Backbone) -> Backbone:
    """What a hook keeps of a block must not be computed again: the same function without remat."""
    if getattr(model.config, "remat", NO_REMAT) == NO_REMAT:
        return model
    return model.clone(config=dataclasses.replace(model.config, remat=NO_REMAT))
