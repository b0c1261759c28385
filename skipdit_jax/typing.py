"""Letters of every signature, and array aliases.

B batch (network rows; guidance doubles it: [cond; uncond]), F frames, H W latent height and width,
C latent channels, N tokens of one image or frame, D width, L text tokens, S sampling steps,
U stages, K skips, k shallow width. Latents are channel-last: images [B,H,W,C], videos [B,F,H,W,C].
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

Params = Mapping[str, Any]
"""Nested dict of arrays; paths like "blocks_0/attn/qkv/kernel"."""

Condition = Any
"""A pytree whose leaves are [B,...], such as labels int32 [B]; see `contracts.Conditioning`."""

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
Index = int | Int[Array, ""]
StepFlags = Bool[np.ndarray, "S"]
Timesteps = Float[Array, "B"]
Labels = Int[Array, "B"]
