"""Rotary positions of a grid (Su et al., arXiv 2104.09864), by tables that are never trained."""

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from skipdit_jax.layers.positions import MAX_PERIOD

BASE = 32  # tokens along each side that positions are fitted into, of any size of picture

Tables = tuple[Float[Array, "N d"], Float[Array, "N d"]]
"""(cos, sin) of each token and channel of a head."""


@functools.lru_cache(maxsize=4)
def rotary_tables(
    height: int, width: int, head_dim: int
) -> tuple[Float[np.ndarray, "N d"], Float[np.ndarray, "N d"]]:
    """(cos, sin) float32 of a grid of tokens in row-major order.

    The first half of a head's channels turns with the column, the second with the row; channels 2i
    and 2i + 1 turn together (docs/notes.md, Parts of the models of text).

    Raises:
      ValueError: a head width that does not divide into such pairs.
    """
    if head_dim % 4:
        raise ValueError(f"rotary_tables: head_dim is {head_dim}, wanted a multiple of 4")
    rows, columns = _fitted(height, width)
    half = head_dim // 2
    frequencies = MAX_PERIOD ** (-np.arange(0, half, 2, dtype=np.float64) / half)
    of_column, of_row = (
        np.repeat(places[:, None] * frequencies, 2, axis=1) for places in (columns, rows)
    )
    angles = np.empty((height, width, head_dim))
    angles[..., :half], angles[..., half:] = of_column[None], of_row[:, None]
    flat = angles.reshape(-1, head_dim)
    return np.cos(flat).astype(np.float32), np.sin(flat).astype(np.float32)


def _fitted(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of rows and columns: the longer side spans the base, the shorter its middle."""
    tall = height > width
    long, short = BASE, round(BASE / max(height, width) * min(height, width))
    rows, columns = (long, short) if tall else (short, long)
    return _span(rows, height), _span(columns, width)


def _span(extent: int, count: int) -> Float[np.ndarray, "n"]:
    start = round((BASE - extent) / 2)
    places = np.linspace(start, start + extent, count, endpoint=False, dtype=np.float32)
    return places.astype(np.float64)


def rotate(x: Float[Array, "B *frames N h d"], tables: Tables) -> Float[Array, "B *frames N h d"]:
    """Turns each pair of channels by its token's angle, in float32."""
    cos, sin = (table.reshape(*(1,) * (x.ndim - 3), len(table), 1, -1) for table in tables)
    x = x.astype(jnp.float32)
    pairs = x.reshape(*x.shape[:-1], -1, 2)
    turned = jnp.stack([-pairs[..., 1], pairs[..., 0]], axis=-1).reshape(x.shape)
    return x * cos + turned * sin
