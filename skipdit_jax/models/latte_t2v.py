"""LatteT2V (Latte, arXiv 2401.03048, in its text-to-video form) and Latte-skip (2411.17616).

A stage is a block of PixArt-alpha on every frame, then a block without text along the frames of
each position. The hidden state stays [B,F,N,D]. A batch may carry independent images with texts of
their own behind its F video frames (joint training): these pass the temporal blocks by.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from skipdit_jax.contracts import Costs, Seam
from skipdit_jax.layers.positions import sincos_1d
from skipdit_jax.models.backbone import FRAMES, PLAIN, SUBLAYERS, TOKENS, sublayer_flops
from skipdit_jax.models.digest import Digest
from skipdit_jax.models.stack import remat_block
from skipdit_jax.models.text import (
    CROSS,
    TextBackbone,
    TextBlock,
    TextConfig,
    TextVectors,
    cross_flops,
)
from skipdit_jax.models.text_conditions import TextCondition

Video = Float[Array, "B F H W C"]
VideoHidden = Float[Array, "B F N D"]


@dataclass(frozen=True, kw_only=True)
class LatteT2VConfig(TextConfig):
    """Everything that fixes a LatteT2V's function; `depth` counts pairs of blocks.

    Attributes:
      num_frames: F of a clip, and rows of the table of frames.
      temporal: False leaves the temporal blocks out: frames are independent pictures.
    """

    FAMILY: ClassVar[str] = "LatteT2V"

    sample_size: int | None = 64
    text_dropout_prob: float = 0.0
    num_frames: int = 16
    temporal: bool = True

    def _positive(self) -> list[tuple[bool, str]]:
        found = f"num_frames is {self.num_frames}, wanted 1 or more"
        return [*super()._positive(), (self.num_frames >= 1, found)]

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(F, H, W, C) of one clip."""
        return (self.num_frames, *super().sample_shape)


class LatteT2V(TextBackbone):
    """U stages of a spatial and a temporal block, with K = U/2 long skips if asked."""

    config: LatteT2VConfig

    @property
    def costs(self) -> Costs:
        """FLOPs of one clip, by formula: matrix products only."""
        return self.joint_costs(0)

    def joint_costs(self, images: int) -> Costs:
        """FLOPs of one clip with that many independent images behind it."""
        config = self.config
        frames, tokens = config.num_frames, config.tokens
        rows = (frames + images) * tokens
        attention, mlp = sublayer_flops(config, rows, tokens)
        spatial = (attention, cross_flops(config, rows, 1 + images), mlp)
        temporal = sublayer_flops(config, frames * tokens, frames) if config.temporal else ()
        names = (SUBLAYERS[TOKENS][0], CROSS, SUBLAYERS[TOKENS][1], *SUBLAYERS[FRAMES])
        return Costs(
            stage=sum(spatial) + sum(temporal),
            fuse=4 * rows * config.hidden_size**2,
            num_stages=self.num_stages,
            num_skips=self.num_skips,
            sublayers=tuple(zip(names, (*spatial, *temporal), strict=False)),
        )

    def setup(self):
        """Makes the parts."""
        super().setup()
        block = remat_block(TextBlock, self.config.remat)
        self.temporal_blocks = [block(self.config, FRAMES) for _ in range(self.num_stages)]

    def embed(
        self, x: Video, t: Float[Array, "B"], condition: TextCondition | Digest
    ) -> tuple[VideoHidden, TextVectors]:
        """Tokens of every frame with their place in it, what modulates, and the texts.

        Raises:
          ValueError: more video frames than the table of frames has rows.
        """
        c = self.vectors(t, condition)
        frames, known = x.shape[1] - c.images, self.config.num_frames
        if not 1 <= frames <= known:
            raise ValueError(f"LatteT2V: {frames} video frames, wanted 1 to {known} (num_frames)")
        tokens = self.tokens(x.reshape(-1, *x.shape[2:]))
        return tokens.reshape(*x.shape[:2], *tokens.shape[1:]), c

    def frame_positions(self, frames: int) -> Float[Array, "1 F 1 D"]:
        """The fixed table of places in time, computed for as many frames as a clip has."""
        places = np.arange(frames, dtype=np.float64)
        table = sincos_1d(places, self.config.hidden_size).astype(np.float32)
        return jnp.asarray(table)[None, :, None]

    def stage(self, u: int, h: VideoHidden, c: TextVectors, seam: Seam = PLAIN) -> VideoHidden:
        """A spatial block on all frames, then a temporal block on those of the video.

        A single frame has no place in time (docs/notes.md, Parts of the models of text).
        """
        h = super().stage(u, h, c, seam)
        if not (self.config.temporal or self.is_initializing()):
            return h
        frames = h.shape[1] - c.images
        video, images = h[:, :frames], h[:, frames:]
        if u == 0 and frames > 1:
            video = video + self.frame_positions(frames).astype(h.dtype)
        video = self.temporal_blocks[u](video, c, seam)
        return jnp.concatenate([video, images], axis=1) if c.images else video

    def __call__(
        self, x: Video, t: Float[Array, "B"], condition: TextCondition
    ) -> Float[Array, "B F H W C2"]:
        """One whole evaluation at model timesteps t.

        Args:
          x: clips [B,F,H,W,C], with n independent images behind the F frames if `condition` has
            texts of theirs.
          t: [B].
          condition: the texts.
        """
        h, c = self.embed(x, t, condition)
        h, _ = self.run(h, c, {}, 0, self.num_stages)
        return self.head(h, c)
