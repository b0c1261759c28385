"""The networks as functions of pixels of 0..255, ready to be compiled: what extractors run."""

from collections.abc import Callable
from typing import Any, cast

import jax.numpy as jnp
from jaxtyping import Array, UInt8

from skipdit_jax.evaluation.networks import pixels
from skipdit_jax.evaluation.networks.i3d import I3D
from skipdit_jax.evaluation.networks.inception import InceptionFeatures, InceptionV3
from skipdit_jax.evaluation.networks.lpips import Lpips

Call = Callable[[Any, Any], Any]


def inception_call(network: InceptionV3, rule: str) -> Call:
    """(parameters, pictures uint8 [B,H,W,C]) -> {"pool", "spatial", "logits"}, float32 [B,D].

    Args:
      network: the network.
      rule: of `pixels.RULES`.
    """

    def call(params: Any, levels: UInt8[Array, "B H W C"]) -> dict[str, Array]:
        found = cast(
            InceptionFeatures,
            network.apply({"params": params}, pixels.for_inception(levels, rule)),
        )
        return {"pool": found.pool, "spatial": found.spatial, "logits": found.logits}

    return call


def i3d_call(network: I3D, rule: str) -> Call:
    """(parameters, clips uint8 [B,F,H,W,C]) -> {"logits"}, float32 [B,400].

    Args:
      network: the network.
      rule: of `pixels.CLIP_RULES`.
    """

    def call(params: Any, levels: UInt8[Array, "B F H W C"]) -> dict[str, Array]:
        clips = levels.astype(jnp.float32) / pixels.LEVELS
        logits = network.apply({"params": params}, pixels.for_i3d(clips, rule))
        return {"logits": cast(Array, logits)}

    return call


def lpips_call(network: Lpips) -> Call:
    """(parameters, pairs of pictures uint8 [B,2,H,W,C]) -> {"value"}, float32 [B]."""

    def call(params: Any, levels: UInt8[Array, "B two H W C"]) -> dict[str, Array]:
        shown = levels.astype(jnp.float32) / (pixels.LEVELS / 2) - 1
        shown = jnp.broadcast_to(shown, (*shown.shape[:-1], 3))
        layers = network.apply({"params": params}, shown[:, 0], shown[:, 1])
        return {"value": cast(Array, layers).sum(axis=0)}

    return call
