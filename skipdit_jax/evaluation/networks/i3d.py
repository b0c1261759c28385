"""I3D on Kinetics-400, whose logits are the features of FVD (Carreira & Zisserman, 1705.07750)."""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from skipdit_jax.config import hold
from skipdit_jax.evaluation.networks.blocks import (
    Branch,
    Mixed,
    NormedConvolution,
    Unit,
    average_pool,
    check_types,
    max_pool,
    same_padding,
)
from skipdit_jax.layers.convolution import Convolution

SIDE = 224  # pixels that it was trained on
FEWEST_FRAMES = 9  # fewer leave nothing for its last pool; callers of FVD ask for 10
CLASSES = 400
LAST_WINDOW = (2, 7, 7)  # frames, rows, columns that the last average goes over
ONE, THREE, SEVEN = (1, 1, 1), (3, 3, 3), (7, 7, 7)

WIDTHS = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
"""Channels of the units of each block, in the order of `_branches`."""

POOLS = {"Mixed_4b": (THREE, (2, 2, 2)), "Mixed_5b": ((2, 2, 2), (2, 2, 2))}
"""Window and stride of the pool before a block."""


@dataclass(frozen=True, kw_only=True)
class I3DConfig:
    """What files of weights differ in.

    Attributes:
      epsilon: of all norms: 1e-3 of the weights as released, 1e-5 in a copy that FVD codes use.
      use_scale: whether the norms have a trained scale: those of torch have one, of 1 or not.
      dtype: compute type, "float32" or "bfloat16".
      param_dtype: of the weights.
    """

    FAMILY: ClassVar[str] = "I3D"

    epsilon: float = 1e-3
    use_scale: bool = True
    dtype: str = "float32"
    param_dtype: str = "float32"

    def __post_init__(self) -> None:
        """Raises ValueError, naming the field, for values that describe no network."""
        hold(self.FAMILY, [(self.epsilon > 0, f"epsilon is {self.epsilon}, wanted more than 0")])
        check_types(self)


def pool(x: Array, window: tuple[int, ...], stride: tuple[int, ...]) -> Array:
    """The largest of each window, with TensorFlow's padding; maps are not below 0."""
    return max_pool(x, window, stride, same_padding(x.shape[1:-1], window, stride))


def _branches(widths: tuple[int, ...]) -> tuple[Branch, ...]:
    b0, b1a, b1b, b2a, b2b, b3b = widths
    return (
        (Unit("b0", b0, ONE),),
        (Unit("b1a", b1a, ONE), Unit("b1b", b1b, THREE)),
        (Unit("b2a", b2a, ONE), Unit("b2b", b2b, THREE)),
        (partial(pool, window=THREE, stride=ONE), Unit("b3b", b3b, ONE)),
    )


class I3D(nn.Module):
    """Clips to logits."""

    config: I3DConfig = I3DConfig()

    def example_inputs(self, rows: int = 1) -> tuple[Any, ...]:
        """Shape and type of the shortest clip, for tracing."""
        return (jax.ShapeDtypeStruct((rows, FEWEST_FRAMES, SIDE, SIDE, 3), jnp.float32),)

    @nn.compact
    def __call__(self, clips: Float[Array, "B F H W 3"]) -> Float[Array, "B 400"]:
        """Logits, the mean over what time is left, float32 [B,400].

        Args:
          clips: in [-1, 1], of `FEWEST_FRAMES` or more, SIDE x SIDE as `pixels.for_i3d` makes them.
        """
        config = self.config
        kind = jnp.dtype(config.param_dtype)
        same: dict[str, Any] = {"dtype": jnp.dtype(config.dtype), "param_dtype": kind}
        same |= {"epsilon": config.epsilon, "use_scale": config.use_scale}
        unit = partial(NormedConvolution, **same)
        first = tuple(same_padding(clips.shape[1:-1], SEVEN, (2, 2, 2)))
        x = unit(64, SEVEN, 2, first, name="Conv3d_1a_7x7")(clips)
        x = pool(x, (1, 3, 3), (1, 2, 2))
        x = unit(64, ONE, name="Conv3d_2b_1x1")(x)
        x = unit(192, THREE, name="Conv3d_2c_3x3")(x)
        x = pool(x, (1, 3, 3), (1, 2, 2))
        for name, widths in WIDTHS.items():
            x = pool(x, *POOLS[name]) if name in POOLS else x
            x = Mixed(_branches(widths), **same, name=name)(x)
        x = average_pool(x.astype(jnp.float32), LAST_WINDOW)
        x = Convolution(CLASSES, ONE, param_dtype=kind, name="logits")(x)
        return x.mean(axis=(1, 2, 3))
