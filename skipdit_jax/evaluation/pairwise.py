"""Squared distances between rows of two sets, block by block on the device.

They are made as |a|² + |b|² - 2 a·b and are never there all at once. Blocks have one shape: another
number of samples compiles nothing. A shift changes no distance, so features are centred first: less
cancels. What is left below the resolution of float32 counts as 0, lest copies of one picture be
apart by rounding.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

BLOCK = 2048
RESOLUTION = 8 * float(np.finfo(np.float32).eps)  # of a distance, relative to |a|² + |b|²


class Block(NamedTuple):
    """Rows of a set on the device; those after its end are zeros and not real."""

    rows: Float[Array, "N D"]
    real: Bool[Array, "N"]


def blocks_of(x: np.ndarray, middle: Float[np.ndarray, "D"]) -> list[Block]:
    """A set [N,D] on the device, in float32, centred at `middle`."""
    blocks = []
    for start in range(0, len(x), BLOCK):
        part = x[start : start + BLOCK]
        rows = np.zeros((BLOCK, x.shape[1]), np.float32)
        rows[: len(part)] = part - middle[None]
        blocks.append(Block(*jax.device_put((rows, np.arange(BLOCK) < len(part)))))
    return blocks


def squared_distances(a: Block, b: Block, half: bool) -> Float[Array, "R S"]:
    """|a - b|² of all pairs (traceable); infinite where a row is not real.

    Args:
      a: R rows.
      b: S rows.
      half: round every step to float16, unless something overflows.
    """
    away = _rounded(a.rows, b.rows) if half else _exact(a.rows, b.rows)
    return jnp.where(a.real[:, None] & b.real[None], away, jnp.inf)


def _exact(a: Float[Array, "R D"], b: Float[Array, "S D"]) -> Float[Array, "R S"]:
    sizes = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None]
    away = sizes - 2 * _products(a, b)
    return jnp.where(away <= RESOLUTION * sizes, 0.0, away)


def _rounded(a: Float[Array, "R D"], b: Float[Array, "S D"]) -> Float[Array, "R S"]:
    """In float16, but for sums of products, which hardware gathers in float32."""
    x, y = a.astype(jnp.float16), b.astype(jnp.float16)
    sizes = [(z * z).astype(jnp.float32).sum(axis=1).astype(jnp.float16) for z in (x, y)]
    products = _products(x.astype(jnp.float32), y.astype(jnp.float32)).astype(jnp.float16)
    away = jnp.maximum(sizes[0][:, None] - 2 * products + sizes[1][None], 0).astype(jnp.float32)
    return jax.lax.cond(jnp.isfinite(away).all(), lambda: away, lambda: _exact(a, b))


def _products(a: Float[Array, "R D"], b: Float[Array, "S D"]) -> Float[Array, "R S"]:
    return jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)
