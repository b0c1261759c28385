"""LPIPS: how different two pictures look (Zhang et al., arXiv 1801.03924, equation 1).

(1)  d(a, b) = Σ_l mean over places of Σ_c w_lc (â_lc - b̂_lc)²

with â_l the features of layer l of a network trained on ImageNet, of length 1 at every place.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from skipdit_jax.config import hold
from skipdit_jax.evaluation.networks.blocks import check_types
from skipdit_jax.layers.convolution import Convolution

# What the trunks were trained on: of pixels in [-1, 1], from mean and deviation of ImageNet.
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
SMALLEST = 1e-10  # added to the length of a feature
EXAMPLE_SIDE = 64


class Layer(NamedTuple):
    """A convolution of a trunk, with ReLU.

    Attributes:
      features: channels of its output.
      size: of its kernel along both axes.
      stride: of both axes.
      padding: on all sides.
      pool: window of the pool of stride 2 before it; 0 for none.
      compared: whether its output is compared.
    """

    features: int
    size: int = 3
    stride: int = 1
    padding: int = 1
    pool: int = 0
    compared: bool = True


def _vgg(*groups: tuple[int, int]) -> tuple[Layer, ...]:
    return tuple(
        Layer(width, pool=2 if n == 0 < g else 0, compared=n == count - 1)
        for g, (width, count) in enumerate(groups)
        for n in range(count)
    )


TRUNKS = {
    "alex": (
        Layer(64, 11, 4, 2),
        Layer(192, 5, 1, 2, pool=3),
        Layer(384, pool=3),
        Layer(256),
        Layer(256),
    ),
    "vgg": _vgg((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)),
}
"""AlexNet and VGG16, up to the last layer that is compared."""

LEAST_SIDES = {"alex": 31, "vgg": 16}
"""Pixels of a side below which a pool has nothing to look at."""


@dataclass(frozen=True, kw_only=True)
class LpipsConfig:
    """Which LPIPS, and how it computes.

    Attributes:
      trunk: key of `TRUNKS`; papers on caching report "alex" unless they say otherwise.
      dtype: compute type, "float32" or "bfloat16".
      param_dtype: of the weights.
    """

    FAMILY: ClassVar[str] = "LPIPS"

    trunk: str = "alex"
    dtype: str = "float32"
    param_dtype: str = "float32"

    def __post_init__(self) -> None:
        """Raises ValueError, naming the field, for values that describe no network."""
        known = tuple(TRUNKS)
        hold(self.FAMILY, [(self.trunk in known, f"trunk is {self.trunk!r}, wanted {known}")])
        check_types(self)


class Lpips(nn.Module):
    """Two sets of pictures to their distances."""

    config: LpipsConfig = LpipsConfig()

    def example_inputs(self, rows: int = 1) -> tuple[Any, ...]:
        """Shapes and types of two small sets of pictures, for tracing."""
        shape = (rows, EXAMPLE_SIDE, EXAMPLE_SIDE, 3)
        return (jax.ShapeDtypeStruct(shape, jnp.float32),) * 2

    def setup(self) -> None:
        """Makes the layers, named as their parameters."""
        types = jnp.dtype(self.config.dtype), jnp.dtype(self.config.param_dtype)
        layers = TRUNKS[self.config.trunk]
        self.conv = [
            Convolution(
                layer.features,
                (layer.size,) * 2,
                layer.stride,
                ((layer.padding,) * 2,) * 2,
                True,
                *types,
                name=f"conv_{number}",
            )
            for number, layer in enumerate(layers)
        ]
        widths = [layer.features for layer in layers if layer.compared]
        self.linear = [
            self.param(f"linear_{n}", nn.initializers.ones, (width,), types[1])
            for n, width in enumerate(widths)
        ]

    def __call__(
        self, a: Float[Array, "B H W 3"], b: Float[Array, "B H W 3"]
    ) -> Float[Array, "layers B"]:
        """The distance that each layer adds (1); their sum over layers is LPIPS.

        Args:
          a: pictures in [-1, 1].
          b: as many of the same size.

        Returns:
          Float32, one row for each layer that is compared.

        Raises:
          ValueError: pictures too small for the trunk.
        """
        pairs = [jnp.split(_of_length_one(x), 2) for x in self.maps(jnp.concatenate([a, b]))]
        apart = [jnp.square(x - y).mean(axis=(1, 2)) for x, y in pairs]
        weights = [w.astype(jnp.float32) for w in self.linear]
        return jnp.stack([x @ w for x, w in zip(apart, weights, strict=True)])

    def maps(self, pictures: Float[Array, "B H W 3"]) -> list[Float[Array, "B _ _ _"]]:
        """What the compared layers of the trunk make of pictures in [-1, 1], [B,h,w,C] each.

        Raises:
          ValueError: pictures too small for the trunk.
        """
        least, (height, width) = LEAST_SIDES[self.config.trunk], pictures.shape[1:3]
        if min(height, width) < least:
            raise ValueError(
                f"LPIPS: found pictures of {width}x{height}, wanted sides of {least} or more for "
                f"{self.config.trunk}"
            )
        shift, scale = (jnp.array(v, jnp.float32).reshape(1, 1, 1, 3) for v in (SHIFT, SCALE))
        x, found = (pictures.astype(jnp.float32) - shift) / scale, []
        for layer, convolution in zip(TRUNKS[self.config.trunk], self.conv, strict=True):
            x = nn.max_pool(x, (layer.pool,) * 2, (2, 2)) if layer.pool else x
            x = nn.relu(convolution(x))
            found += [x] if layer.compared else []
        return found


def _of_length_one(x: Array) -> Array:
    x = x.astype(jnp.float32)
    return x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + jnp.float32(SMALLEST))
