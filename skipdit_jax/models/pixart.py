"""PixArt-alpha (Chen et al., arXiv 2310.00426): text to image; with long skips as Skip-DiT's."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Array, Float

from skipdit_jax.contracts import Costs
from skipdit_jax.models.backbone import SUBLAYERS, TOKENS, sublayer_flops
from skipdit_jax.models.digest import Digest
from skipdit_jax.models.text import CROSS, TextBackbone, TextConfig, TextVectors, cross_flops
from skipdit_jax.models.text_conditions import TextCondition


@dataclass(frozen=True, kw_only=True)
class PixArtConfig(TextConfig):
    """Everything that fixes a PixArt's function, see `TextConfig`; a stage is one block."""

    FAMILY: ClassVar[str] = "PixArt"


class PixArt(TextBackbone):
    """A row of U blocks, with K = U/2 long skips if the config asks for them."""

    config: PixArtConfig

    @property
    def costs(self) -> Costs:
        """FLOPs per network row, by formula: matrix products only."""
        tokens = self.config.tokens
        attention, mlp = sublayer_flops(self.config, tokens, tokens)
        cross = cross_flops(self.config, tokens)
        return Costs(
            stage=attention + cross + mlp,
            fuse=4 * tokens * self.config.hidden_size**2,
            num_stages=self.num_stages,
            num_skips=self.num_skips,
            sublayers=(
                (SUBLAYERS[TOKENS][0], attention),
                (CROSS, cross),
                (SUBLAYERS[TOKENS][1], mlp),
            ),
        )

    def embed(
        self, x: Float[Array, "B H W C"], t: Float[Array, "B"], condition: TextCondition | Digest
    ) -> tuple[Float[Array, "B N D"], TextVectors]:
        """Tokens with positions; what modulates the blocks, and the text that they read."""
        return self.tokens(x), self.vectors(t, condition)

    def __call__(
        self, x: Float[Array, "B H W C"], t: Float[Array, "B"], condition: TextCondition
    ) -> Float[Array, "B H W C2"]:
        """One whole evaluation at model timesteps t, which may be fractional."""
        h, c = self.embed(x, t, condition)
        h, _ = self.run(h, c, {}, 0, self.num_stages)
        return self.head(h, c)
