"""Letters of every signature, array aliases, and the protocols where the parts meet.

B batch (network rows; guidance doubles it: [cond; uncond]), F frames, H W latent height and width,
C latent channels, N tokens of one image or frame, D width, L text tokens, S sampling steps,
U stages, K skips, k shallow width. Latents are channel-last: images [B,H,W,C], videos [B,F,H,W,C].
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

Params = Mapping[str, Any]
"""Nested dict of arrays; paths like "blocks_0/attn/qkv/kernel"."""

Condition = Any
"""What a family conditions on besides time: labels int32 [B], or a pytree of text features."""

PRNGKey = Key[Array, ""] | UInt32[Array, "2"]
"""`jax.random.key(0)` or the older raw `jax.random.PRNGKey(0)`."""

Hidden = Float[Array, "B *tokens D"]
"""Hidden state of a stage: [B,N,D] for images, [B,F,N,D] for videos."""

Latents = Float[Array, "B *grid C"]
"""[B,H,W,C] or [B,F,H,W,C]."""

Skips = dict[int, Array]
"""Outputs of the pushing stages, indexed by stage: read, never popped."""

Scalar = Float[Array, ""]
Flag = bool | Bool[Array, ""]
StepFlags = Bool[np.ndarray, "S"]
Timesteps = Float[Array, "B"]
Labels = Int[Array, "B"]


class JointLabels(NamedTuple):
    """Labels of clips that carry independent images behind their frames (joint training).

    Attributes:
      video: of the clip, int [B].
      images: of each of its n images, int [B,n].
    """

    video: Labels
    images: Int[Array, "B n"]


@dataclass(frozen=True)
class StagedModel:
    """A backbone with its parameters bound: all that sampling ever sees of a network.

    Attributes:
      embed: (x [B,H,W,C], t [B], condition) -> tokens h [B,N,D] and conditioning c (a pytree).
      run: (h, c, skips, lo, hi) -> (h, skips) after stages lo..hi-1.
      head: (h, c) -> prediction [B,H,W,C_out].
      num_stages: U. Stage u < K pushes its output; stage u >= U - K fuses that of stage U-1-u.
      num_skips: K; 0 for a plain model.
    """

    embed: Callable[..., tuple[Array, Any]]
    run: Callable[..., tuple[Array, Skips]]
    head: Callable[..., Array]
    num_stages: int
    num_skips: int


class Trunk(NamedTuple):
    """Which part of the network a cached step leaves out, fixed at trace time.

    Attributes:
      front: stages [0, front) run fresh on every step.
      back: stages [U - back, U) run fresh on every step.
      residual: False caches the value that enters the back part (Skip-Cache); True caches what the
        deep part added to its input (block-range methods for models without skips).
    """

    front: int
    back: int
    residual: bool = False


@dataclass(frozen=True)
class Costs:
    """FLOPs of a backbone's parts for one network row (a multiply-add counts as two).

    Embedding and final layer, 0.02 % of DiT-XL/2, are left out, as in the published figures.

    Attributes:
      stage: one stage.
      fuse: one long-skip fusion.
      num_stages: U.
      num_skips: K.
    """

    stage: int
    fuse: int
    num_stages: int
    num_skips: int

    def total(self, trunk: Trunk | None = None) -> int:
        """FLOPs of a call whose stages [front, U - back) come from a cache; None runs all."""
        if trunk is None:
            return self.num_stages * self.stage + self.num_skips * self.fuse
        return (trunk.front + trunk.back) * self.stage + min(trunk.back, self.num_skips) * self.fuse


class Plan(NamedTuple):
    """A caching schedule over the S model calls of one sampling run, made on the host.

    Attributes:
      reuse: bool [S], True where the deep part is taken from the cache. `reuse[0]` is False.
      trunk: what the cache stands for.
    """

    reuse: StepFlags
    trunk: Trunk


@runtime_checkable
class CachePolicy(Protocol):
    """A caching method: a small frozen dataclass that turns timesteps into a plan."""

    def plan(self, timesteps: Int[np.ndarray, "S"]) -> Plan:
        """Returns the plan for model timesteps in sampling order (descending)."""
        ...
