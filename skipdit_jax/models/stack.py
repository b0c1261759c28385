"""The only loop over stages in the library, and the view of a model that sampling takes.

The loop is unrolled when it is traced: docs/notes.md, Unrolled layers.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array

from skipdit_jax.contracts import Backbone, StagedModel
from skipdit_jax.typing import Hidden, Params, Skips

REMATS = {
    "none": None,
    "blocks": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}
"""What a block keeps for its backward pass, by name; see `remat_block`."""


def remat_block(block: type[nn.Module], remat: str) -> type[nn.Module]:
    """Makes a kind of block trade memory for time in training; parameters and output stay.

    Args:
      block: the module class of a stage.
      remat: "none" keeps all intermediates; "blocks" keeps only what enters a block and computes it
        again in the backward pass (a third more work); "dots" keeps the results of its linears too.
    """
    policy = REMATS[remat]
    return block if policy is None else nn.remat(block, policy=policy)


def run_stages(
    stage: Callable[[int, Array], Array],
    fuse: Callable[[int, Array, Array], Array],
    h: Hidden,
    skips: Skips,
    stages: range,
    *,
    num_stages: int,
    num_skips: int,
) -> tuple[Hidden, Skips]:
    """Runs some stages of a row of U stages with K long skips.

    Stage u < K leaves its output in `skips[u]`; stage u >= U - K first fuses its input with
    `skips[U - 1 - u]`. Stages between, if any, have no skip.

    Args:
      stage: (u, h) -> h.
      fuse: (j, h, skip) -> h, with j = u - (U - K) counting the fusions.
      h: what enters the first of them.
      skips: outputs of the pushing stages before it that they need.
      stages: which, lo..hi-1.
      num_stages: U.
      num_skips: K, at most U / 2.

    Returns:
      What leaves the last of them, and `skips` with the outputs of the pushing stages added.
    """
    first_fusion = num_stages - num_skips
    skips = dict(skips)
    for u in stages:
        if u >= first_fusion:
            h = fuse(u - first_fusion, h, skips[num_stages - 1 - u])
        h = stage(u, h)
        if u < num_skips:
            skips[u] = h
    return h, skips


def bind(model: Backbone, params: Params) -> StagedModel:
    """The three pure calls of a backbone with its parameters bound."""

    def call(method: str) -> Any:
        return partial(model.apply, {"params": params}, method=method)

    return StagedModel(
        embed=call("embed"),
        run=call("run"),
        head=call("head"),
        num_stages=model.num_stages,
        num_skips=model.num_skips,
    )
