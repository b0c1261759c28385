"""DiT (Peebles & Xie, arXiv 2212.09748) and Skip-DiT (arXiv 2411.17616): class to image."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Array, Float, Int

from skipdit_jax.contracts import Costs, Seam
from skipdit_jax.layers.embedders import patchify, unpatchify
from skipdit_jax.models.backbone import PLAIN, sublayer_flops
from skipdit_jax.models.class_backbone import (
    ClassBackbone,
    ClassConfig,
    Prepared,
    modulation_flops,
    of_layer,
)

Vector = Float[Array, "B D"]


@dataclass(frozen=True, kw_only=True)
class DiTConfig(ClassConfig):
    """Everything that fixes a DiT's function, see `ClassConfig`; a stage is one block."""

    FAMILY: ClassVar[str] = "DiT"


class DiT(ClassBackbone):
    """A row of U blocks, with K = U/2 long skips if the config asks for them."""

    @property
    def costs(self) -> Costs:
        """FLOPs per network row, by formula: matrix products only."""
        tokens = self.config.tokens
        attention, mlp = sublayer_flops(self.config, tokens, tokens)
        return Costs(
            stage=attention + mlp + modulation_flops(self.config),
            fuse=4 * tokens * self.config.hidden_size**2,
            num_stages=self.num_stages,
            num_skips=self.num_skips,
            sublayers=(("attn", attention), ("mlp", mlp)),
        )

    def embed(
        self,
        x: Float[Array, "B H W C"],
        t: Float[Array, "B"],
        y: Int[Array, "B"] | None = None,
        c: Prepared | None = None,
    ) -> tuple[Float[Array, "B N D"], Vector | Prepared]:
        """Tokens with positions, and what modulates: the vector c (float32) unless it is given."""
        h = self.x_embedder(patchify(x, self.config.patch_size))  # [B,N,D]
        h = h + self.positions().astype(h.dtype)
        return h, self.condition(t, y) if c is None else c

    def condition(self, t: Float[Array, "B"], y: Int[Array, "B"] | None = None) -> Vector:
        """The conditioning vector c = t_emb + y_emb."""
        c = self.t_embedder(t)  # [B,D]
        return c + self.y_embedder(y) if self.config.num_classes else c

    def prepare(self, t: Float[Array, "B"], y: Int[Array, "B"] | None = None) -> Prepared | None:
        """Everything that depends on t and y alone; see `contracts.StagedModel`."""
        return self.prepared(self.condition(t, y))

    def stage(
        self, u: int, h: Float[Array, "B N D"], c: Vector | Prepared, seam: Seam = PLAIN
    ) -> Float[Array, "B N D"]:
        """Block u."""
        return self.blocks[u](h, of_layer(c, u), seam)

    def head(self, h: Float[Array, "B N D"], c: Vector | Prepared) -> Float[Array, "B H W C"]:
        """The prediction: noise and, with learned variance, C more channels; float32."""
        height, width = self.config.grid
        return unpatchify(
            self.final_layer(h, of_layer(c, -1)), height, width, self.config.patch_size
        )

    def __call__(
        self, x: Float[Array, "B H W C"], t: Float[Array, "B"], y: Int[Array, "B"] | None = None
    ) -> Float[Array, "B H W C2"]:
        """One whole evaluation at model timesteps t; y are labels, num_classes meaning none."""
        h, c = self.embed(x, t, y)
        h, _ = self.run(h, c, {}, 0, self.num_stages)
        return self.head(h, c)
