"""What every family shares: a config's fields, the shapes and counts of the module."""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from skipdit_jax.config import hold
from skipdit_jax.contracts import Conditioning, Hook, Seam
from skipdit_jax.layers.attention import IMPLEMENTATIONS
from skipdit_jax.models.stack import REMATS, run_stages
from skipdit_jax.typing import Hidden, Skips

DTYPES = ("float32", "bfloat16")

TOKENS, FRAMES = -2, -3
"""Axes of a hidden state [..., F, N, D] that attention can run along."""

SUBLAYERS = {TOKENS: ("attn", "mlp"), FRAMES: ("tattn", "tmlp")}
"""What the two halves of a block are called where they meet the seam."""

PLAIN = Seam()


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """Everything that fixes a backbone's function, apart from its weights.

    Attributes:
      input_size: side of the latent grid, or (height, width).
      patch_size: side of the square that becomes one token.
      in_channels: C.
      hidden_size: D.
      depth: number of blocks.
      num_heads: attention heads.
      mlp_ratio: hidden width of the MLP over D.
      learn_sigma: the head also predicts C variance channels.
      skip: long skips between stage u and stage U-1-u.
      dtype: compute type, "float32" or "bfloat16". Norms, softmax and modulation stay float32.
      param_dtype: type of the stored weights.
      attention: "auto", "xla", "cudnn" or "fold".
      remat: what training keeps of each block for its backward pass, see `stack.remat_block`.
    """

    FAMILY: ClassVar[str] = "backbone"  # what errors call it
    BLOCKS_PER_STAGE: ClassVar[int] = 1

    input_size: int | tuple[int, int] = 32
    patch_size: int = 2
    in_channels: int = 4
    hidden_size: int = 1152
    depth: int = 28
    num_heads: int = 16
    mlp_ratio: float = 4.0
    learn_sigma: bool = True
    skip: bool = False
    dtype: str = "float32"
    param_dtype: str = "float32"
    attention: str = "auto"
    remat: str = "none"

    def __post_init__(self):
        """Raises ValueError, naming the field, for values that describe no model."""
        if isinstance(self.input_size, list):
            object.__setattr__(self, "input_size", tuple(self.input_size))
        hold(self.FAMILY, (*self._positive(), *self._checks()))

    def _positive(self) -> list[tuple[bool, str]]:
        names = ("patch_size", "in_channels", "hidden_size", "depth", "num_heads")
        return [
            (getattr(self, name) >= 1, f"{name} is {getattr(self, name)}, wanted 1 or more")
            for name in names
        ]

    def _checks(self) -> list[tuple[bool, str]]:
        """(what must hold, what to say otherwise)."""
        height, width = self.grid
        patch, multiple = max(self.patch_size, 1), self.BLOCKS_PER_STAGE * (1 + self.skip)
        return [
            (min(height, width) > 0, f"input_size is {self.input_size}, wanted positive sizes"),
            (
                height % patch == 0 and width % patch == 0,
                f"input_size {height}x{width} is not divisible by patch_size {patch}",
            ),
            (
                self.hidden_size % max(self.num_heads, 1) == 0,
                f"hidden_size {self.hidden_size} is not divisible by num_heads {self.num_heads}",
            ),
            (self.hidden_size % 4 == 0, f"hidden_size {self.hidden_size} is no multiple of 4"),
            (
                1 <= self.hidden_size * self.mlp_ratio < math.inf,
                f"mlp_ratio is {self.mlp_ratio}, wanted at least 1 / hidden_size",
            ),
            (
                self.depth % multiple == 0,
                f"depth {self.depth} is no multiple of {multiple}"
                + (", as skips need" if self.skip else ""),
            ),
            (self.dtype in DTYPES, f"dtype is {self.dtype!r}, wanted one of {DTYPES}"),
            (
                self.param_dtype in DTYPES,
                f"param_dtype is {self.param_dtype!r}, wanted one of {DTYPES}",
            ),
            (
                self.attention in IMPLEMENTATIONS,
                f"attention is {self.attention!r}, wanted one of {IMPLEMENTATIONS}",
            ),
            (self.remat in REMATS, f"remat is {self.remat!r}, wanted one of {tuple(REMATS)}"),
        ]

    @property
    def grid(self) -> tuple[int, int]:
        """(height, width) of the latents."""
        size = self.input_size
        return (size, size) if isinstance(size, int) else size

    @property
    def tokens(self) -> int:
        """N."""
        return self.grid[0] * self.grid[1] // self.patch_size**2

    @property
    def token_grid(self) -> tuple[int, int]:
        """Rows and columns of the tokens of one picture."""
        height, width = (side // self.patch_size for side in self.grid)
        return height, width

    @property
    def out_channels(self) -> int:
        """C, or 2C with learned variance."""
        return self.in_channels * (2 if self.learn_sigma else 1)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(H, W, C) of one latent, (F, H, W, C) of one clip."""
        return (*self.grid, self.in_channels)

    @property
    def types(self) -> dict[str, Any]:
        """Compute and storage types, as layers take them."""
        return {"dtype": jnp.dtype(self.dtype), "param_dtype": jnp.dtype(self.param_dtype)}


def sublayer_flops(config: BackboneConfig, rows: int, attended: int) -> tuple[int, int]:
    """FLOPs of a block's attention and MLP over so many tokens, each attending to so many."""
    width = config.hidden_size
    attention = 8 * rows * width**2 + 4 * rows * attended * width
    return attention, 4 * rows * width * int(width * config.mlp_ratio)


class StagedBackbone(nn.Module):
    """What every `contracts.Backbone` of the library has; a family makes `blocks`, `skip_fusions`.

    Attributes:
      config: everything that fixes its function.
      trained: what its weights say of sampling, see `contracts.LoadedBackbone`.
    """

    config: BackboneConfig
    trained: Any = field(default=None, compare=False, repr=False)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(H, W, C) of one latent, (F, H, W, C) of one clip."""
        return self.config.sample_shape

    @property
    def token_grid(self) -> tuple[int, int]:
        """Rows and columns of the tokens of one picture or frame."""
        return self.config.token_grid

    @property
    def learns_variance(self) -> bool:
        """Whether the head gives C more channels, of the variance."""
        return self.config.learn_sigma

    @property
    def conditioning(self) -> Conditioning:
        """What it is conditioned on."""
        raise NotImplementedError

    def example_inputs(self, rows: int = 1) -> tuple[Any, ...]:
        """Shapes and types of (x, t, condition) of so many rows, for tracing."""
        x = jax.ShapeDtypeStruct((rows, *self.sample_shape), jnp.float32)
        return x, jax.ShapeDtypeStruct((rows,), jnp.float32), self.conditioning.examples(rows)

    @property
    def num_stages(self) -> int:
        """U."""
        return self.config.depth // self.config.BLOCKS_PER_STAGE

    @property
    def num_skips(self) -> int:
        """K."""
        return self.num_stages // 2 if self.config.skip else 0

    def stage(self, u: int, h: Hidden, c: Any, seam: Seam = PLAIN) -> Hidden:
        """Stage u: one block, where a family has no more in it and gives it all of c."""
        return self.blocks[u](h, c, seam)

    def run(
        self, h: Hidden, c: Any, skips: Skips, lo: int, hi: int, hook: Hook | None = None
    ) -> tuple[Hidden, Skips]:
        """Stages lo..hi-1; see `stack.run_stages`."""
        return run_stages(
            lambda u, h, seam: self.stage(u, h, c, seam),
            lambda j, h, skip: self.skip_fusions[j](h, skip),
            h,
            skips,
            range(lo, hi),
            num_stages=self.num_stages,
            num_skips=self.num_skips,
            hook=hook,
        )

    def fixed(self, name: str, table: Any) -> Float[Array, "1 n D"]:
        """A fixed table, or the rounded one that half-precision weights were saved with."""
        if self.has_variable("params", name):
            return jax.lax.stop_gradient(jnp.asarray(self.get_variable("params", name)))
        return jnp.asarray(table[None])
