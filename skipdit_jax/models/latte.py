"""Latte (Ma et al., arXiv 2401.03048) and Latte-skip (arXiv 2411.17616): class to video.

Blocks alternate: spatial ones attend within a frame, temporal ones along the frames of a position.
The hidden state stays [B,F,N,D] throughout; only the operands of temporal attention are transposed.
A batch may carry independent images behind its F video frames (joint training, section 3.4 of
Latte): these pass temporal blocks by.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from skipdit_jax.contracts import Costs, Seam
from skipdit_jax.layers.embedders import patchify, unpatchify
from skipdit_jax.layers.positions import sincos_1d
from skipdit_jax.models.backbone import FRAMES, PLAIN, SUBLAYERS, TOKENS, sublayer_flops
from skipdit_jax.models.class_backbone import (
    ClassBackbone,
    ClassConfig,
    Prepared,
    modulation_flops,
)
from skipdit_jax.models.conditions import JointLabels
from skipdit_jax.typing import Labels

Video = Float[Array, "B F H W C"]
VideoHidden = Float[Array, "B F N D"]


@dataclass(frozen=True, kw_only=True)
class LatteConfig(ClassConfig):
    """Everything that fixes a Latte's function; a stage is a spatial and a temporal block.

    The published `extras` 1 (unconditional) is num_classes 0, the default; `extras` 2 is a number
    of classes.

    Attributes:
      num_frames: F of a clip; the weights' table of frames has at least as many rows.
    """

    FAMILY: ClassVar[str] = "Latte"
    BLOCKS_PER_STAGE: ClassVar[int] = 2

    num_classes: int = 0
    num_frames: int = 16

    def _positive(self) -> list[tuple[bool, str]]:
        found = f"num_frames is {self.num_frames}, wanted 1 or more"
        return [*super()._positive(), (self.num_frames >= 1, found)]

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(F, H, W, C) of one clip."""
        return (self.num_frames, *super().sample_shape)


class VideoCondition(NamedTuple):
    """What modulates the blocks: t_emb + y_emb.

    Attributes:
      video: of the clip, [B,D].
      images: of each independent image behind it, [B,n,D]; None without images.
    """

    video: Float[Array, "B D"]
    images: Float[Array, "B n D"] | None = None

    def split(self, frames: int) -> int:
        """How many of so many frames are the video's."""
        return frames - (0 if self.images is None else self.images.shape[1])

    def of_frames(self, frames: int) -> Float[Array, "B *frames D"]:
        """[B,D] where all frames share it, else one for each frame, [B,F+n,D]."""
        if self.images is None:
            return self.video
        video = jnp.repeat(self.video[:, None], self.split(frames), axis=1)
        return jnp.concatenate([video, self.images], axis=1)


def _of_layer(c: VideoCondition | Prepared, number: int) -> VideoCondition:
    """What modulates a block, the final layer being -1."""
    return VideoCondition(c.vectors[number]) if isinstance(c, Prepared) else c


class Latte(ClassBackbone):
    """U = depth / 2 stages of a spatial and a temporal block, with K = U/2 long skips if asked."""

    config: LatteConfig

    _xavier_skips: ClassVar[bool] = True

    @property
    def costs(self) -> Costs:
        """FLOPs of one clip, by formula: matrix products only."""
        return self.joint_costs(0)

    def joint_costs(self, images: int) -> Costs:
        """FLOPs of one clip with that many independent images behind it."""
        config = self.config
        frames, tokens = config.num_frames, config.tokens
        spatial = sublayer_flops(config, (frames + images) * tokens, tokens)
        temporal = sublayer_flops(config, frames * tokens, frames)
        products = (*spatial, *temporal)
        return Costs(
            stage=sum(products) + self.config.BLOCKS_PER_STAGE * modulation_flops(config),
            fuse=4 * (frames + images) * tokens * config.hidden_size**2,
            num_stages=self.num_stages,
            num_skips=self.num_skips,
            sublayers=tuple(zip((*SUBLAYERS[TOKENS], *SUBLAYERS[FRAMES]), products, strict=True)),
        )

    def _axes(self) -> list[int]:
        return [TOKENS, FRAMES] * self.num_stages

    def embed(
        self,
        x: Video,
        t: Float[Array, "B"],
        y: Labels | JointLabels | None = None,
        c: Prepared | None = None,
    ) -> tuple[VideoHidden, VideoCondition | Prepared]:
        """Tokens of every frame with their place in it, and what modulates unless it is given.

        Raises:
          ValueError: more video frames than the weights know places for.
        """
        images = y.images.shape[1] if isinstance(y, JointLabels) else 0
        frames, known = x.shape[1] - images, self.config.num_frames
        if not 1 <= frames <= known:
            raise ValueError(f"Latte: {frames} video frames, wanted 1 to {known} (num_frames)")
        tokens = patchify(x.reshape(-1, *x.shape[2:]), self.config.patch_size)
        h = self.x_embedder(tokens.reshape(*x.shape[:2], *tokens.shape[1:]))  # [B,F+n,N,D]
        h = h + self.positions().astype(h.dtype)[None]
        return h, self.condition(t, y) if c is None else c

    def prepare(
        self, t: Float[Array, "B"], y: Labels | JointLabels | None = None
    ) -> Prepared | None:
        """Everything that depends on t and y alone, of clips; see `contracts.StagedModel`."""
        c = self.condition(t, y)
        return self.prepared(c.video) if c.images is None else None

    def condition(self, steps: Float[Array, "B"], y: Labels | JointLabels | None) -> VideoCondition:
        """t_emb + y_emb, of the clip and of each of its images (float32)."""
        t = self.t_embedder(steps)
        labelled = self.config.num_classes > 0
        if not isinstance(y, JointLabels):
            return VideoCondition(t + self.y_embedder(y) if labelled else t)
        each = jnp.repeat(t[:, None], y.images.shape[1], axis=1)  # [B,n,D]
        if not labelled:
            return VideoCondition(t, each)
        return VideoCondition(t + self.y_embedder(y.video), each + self.y_embedder(y.images))

    def frame_positions(self, frames: int) -> Float[Array, "1 F 1 D"]:
        """The fixed table of places in time."""
        rows = np.arange(self.config.num_frames, dtype=np.float64)
        table = sincos_1d(rows, self.config.hidden_size).astype(np.float32)
        return self.fixed("temp_embed", table)[:, :frames, None]

    def stage(
        self, u: int, h: VideoHidden, c: VideoCondition | Prepared, seam: Seam = PLAIN
    ) -> VideoHidden:
        """A spatial block on all frames, then a temporal block on those of the video."""
        spatial, temporal = _of_layer(c, 2 * u), _of_layer(c, 2 * u + 1)
        h = self.blocks[2 * u](h, spatial.of_frames(h.shape[1]), seam)
        frames = temporal.split(h.shape[1])
        video, images = h[:, :frames], h[:, frames:]
        if u == 0:
            video = video + self.frame_positions(frames).astype(h.dtype)
        video = self.blocks[2 * u + 1](video, temporal.video, seam)
        return video if temporal.images is None else jnp.concatenate([video, images], axis=1)

    def head(self, h: VideoHidden, c: VideoCondition | Prepared) -> Video:
        """The prediction: noise and, with learned variance, C more channels; float32."""
        patches = self.final_layer(h, _of_layer(c, -1).of_frames(h.shape[1]))  # [B,F,N,P]
        frames, (height, width) = patches.reshape(-1, *patches.shape[2:]), self.config.grid
        pictures = unpatchify(frames, height, width, self.config.patch_size)
        return pictures.reshape(*patches.shape[:2], *pictures.shape[1:])

    def __call__(
        self, x: Video, t: Float[Array, "B"], y: Labels | JointLabels | None = None
    ) -> Float[Array, "B F H W C2"]:
        """One whole evaluation at model timesteps t.

        Args:
          x: clips [B,F,H,W,C], with n independent images behind the F frames if y has theirs.
          t: [B].
          y: labels [B], num_classes meaning none; `JointLabels` for joint training, of which an
            unconditional model sees the number of images only.
        """
        h, c = self.embed(x, t, y)
        h, _ = self.run(h, c, {}, 0, self.num_stages)
        return self.head(h, c)
