"""InceptionV3 as of FID: the network of 2015 with 1008 outputs (Szegedy et al., arXiv 1512.00567).

It differs from later ones in its pools: averages leave the padding out, and the last block pools
by the maximum (docs/notes.md, Metrics).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from skipdit_jax.evaluation.networks.blocks import (
    Branch,
    Fork,
    Mixed,
    NormedConvolution,
    Unit,
    average_pool,
    check_types,
    max_pool,
)
from skipdit_jax.layers.linear import Linear

SIDE = 299  # pixels that it was trained on
CLASSES = 1008
SPATIAL_CHANNELS = 7  # of mixed_6/conv that sFID looks at (Nash et al., arXiv 2103.03841)
EPSILON = 1e-3  # of all norms
VALID = ((0, 0), (0, 0))

average = partial(average_pool, window=(3, 3), keep=True)
largest = partial(max_pool, window=(3, 3), stride=(1, 1), padding=((1, 1), (1, 1)))


def halve(x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 C"]:
    """The largest of every second window of 3x3: slices take a third of a window's time on CPU."""
    for axis in (1, 2):
        ends = x.shape[axis] - 2
        parts = [jax.lax.slice_in_dim(x, n, ends + n, 2, axis) for n in range(3)]
        x = jnp.maximum(jnp.maximum(parts[0], parts[1]), parts[2])
    return x


ONE, THREE, FIVE, ROW, COLUMN = (1, 1), (3, 3), (5, 5), (1, 7), (7, 1)


@dataclass(frozen=True, kw_only=True)
class InceptionConfig:
    """How the network computes; everything else of it is fixed.

    Attributes:
      dtype: compute type, "float32" or "bfloat16".
      param_dtype: of the weights.
    """

    FAMILY: ClassVar[str] = "InceptionV3"

    dtype: str = "float32"
    param_dtype: str = "float32"

    def __post_init__(self) -> None:
        """Raises ValueError, naming the field, for values that describe no network."""
        check_types(self)


class InceptionFeatures(NamedTuple):
    """What metrics are made of, float32.

    Attributes:
      pool: FID, KID, precision and recall: [B,2048].
      spatial: sFID: the first channels of a map of 17x17, places first: [B,2023].
      logits: Inception score: without bias, [B,1008].
      early: means of maps before: 64, 192 and 768 channels.
    """

    pool: Float[Array, "B 2048"]
    spatial: Float[Array, "B 2023"]
    logits: Float[Array, "B 1008"]
    early: tuple[Array, ...]


def _dbl(*widths: int, stride: int = 1) -> Branch:
    first, second, third = widths
    return (
        Unit("branch3x3dbl_1", first, ONE),
        Unit("branch3x3dbl_2", second, THREE),
        Unit("branch3x3dbl_3", third, THREE, stride),
    )


def _of_35(pooled: int) -> tuple[Branch, ...]:
    """A block of maps of 35x35."""
    return (
        (Unit("branch1x1", 64, ONE),),
        (Unit("branch5x5_1", 48, ONE), Unit("branch5x5_2", 64, FIVE)),
        _dbl(64, 96, 96),
        (average, Unit("branch_pool", pooled, ONE)),
    )


def _of_17(width: int) -> tuple[Branch, ...]:
    """A block of maps of 17x17."""
    names = [f"branch7x7dbl_{n}" for n in range(2, 6)]
    sizes, widths = (COLUMN, ROW, COLUMN, ROW), (width, width, width, 192)
    return (
        (Unit("branch1x1", 192, ONE),),
        (
            Unit("branch7x7_1", width, ONE),
            Unit("branch7x7_2", width, ROW),
            Unit("branch7x7_3", 192, COLUMN),
        ),
        (Unit("branch7x7dbl_1", width, ONE), *map(Unit, names, widths, sizes)),
        (average, Unit("branch_pool", 192, ONE)),
    )


def _fork(name: str) -> Fork:
    return Fork((Unit(f"{name}a", 384, (1, 3)), Unit(f"{name}b", 384, (3, 1))))


def _of_8(pool: Any) -> tuple[Branch, ...]:
    """A block of maps of 8x8."""
    return (
        (Unit("branch1x1", 320, ONE),),
        (Unit("branch3x3_1", 384, ONE), _fork("branch3x3_2")),
        (
            Unit("branch3x3dbl_1", 448, ONE),
            Unit("branch3x3dbl_2", 384, THREE),
            _fork("branch3x3dbl_3"),
        ),
        (pool, Unit("branch_pool", 192, ONE)),
    )


MIXED: dict[str, tuple[Branch, ...]] = {
    "Mixed_5b": _of_35(32),
    "Mixed_5c": _of_35(64),
    "Mixed_5d": _of_35(64),
    "Mixed_6a": ((Unit("branch3x3", 384, THREE, 2),), _dbl(64, 96, 96, stride=2), (halve,)),
    "Mixed_6b": _of_17(128),
    "Mixed_6c": _of_17(160),
    "Mixed_6d": _of_17(160),
    "Mixed_6e": _of_17(192),
    "Mixed_7a": (
        (Unit("branch3x3_1", 192, ONE), Unit("branch3x3_2", 320, THREE, 2)),
        (
            Unit("branch7x7x3_1", 192, ONE),
            Unit("branch7x7x3_2", 192, ROW),
            Unit("branch7x7x3_3", 192, COLUMN),
            Unit("branch7x7x3_4", 192, THREE, 2),
        ),
        (halve,),
    ),
    "Mixed_7b": _of_8(average),
    "Mixed_7c": _of_8(largest),
}
"""Blocks by the names that they have in files of torch."""

SPATIAL_BLOCK = "Mixed_6d"  # mixed_6 of TensorFlow; its branch of 1x1 is the first


class InceptionV3(nn.Module):
    """Pixels to features."""

    config: InceptionConfig = InceptionConfig()

    def example_inputs(self, rows: int = 1) -> tuple[Any, ...]:
        """Shape and type of its input, for tracing."""
        return (jax.ShapeDtypeStruct((rows, SIDE, SIDE, 3), jnp.float32),)

    @nn.compact
    def __call__(self, pixels: Float[Array, "B H W 3"]) -> InceptionFeatures:
        """Features of pictures in [-1, 1], SIDE x SIDE as `pixels.for_inception` makes them."""
        kind = jnp.dtype(self.config.param_dtype)
        same: dict[str, Any] = {"dtype": jnp.dtype(self.config.dtype), "param_dtype": kind}
        same |= {"epsilon": EPSILON}
        unit = partial(NormedConvolution, **same)
        x = unit(32, THREE, 2, VALID, name="Conv2d_1a_3x3")(pixels)
        x = unit(32, THREE, 1, VALID, name="Conv2d_2a_3x3")(x)
        early = [halve(unit(64, THREE, name="Conv2d_2b_3x3")(x))]
        x = unit(80, ONE, name="Conv2d_3b_1x1")(early[0])
        x = halve(unit(192, THREE, 1, VALID, name="Conv2d_4a_3x3")(x))
        early.append(x)
        for name, branches in MIXED.items():
            x = Mixed(branches, **same, name=name)(x)
            if name == SPATIAL_BLOCK:
                spatial = x[..., :SPATIAL_CHANNELS].reshape(len(x), -1)
            early += [x] if name == "Mixed_6e" else []
        pool = _mean(x)
        head = Linear(CLASSES, jnp.float32, kind, use_bias=False, name="fc")
        spatial = spatial.astype(jnp.float32)
        return InceptionFeatures(pool, spatial, head(pool), tuple(map(_mean, early)))


def _mean(x: Array) -> Array:
    return x.astype(jnp.float32).mean(axis=(1, 2))
