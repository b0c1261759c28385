"""Fixed sine-cosine tables, computed in float64 on the host and never trained."""

import functools

import numpy as np
from jaxtyping import Float

MAX_PERIOD = 10_000.0  # Vaswani et al., arXiv 1706.03762, section 3.5


def sincos_1d(
    positions: Float[np.ndarray, "N"], dim: int, max_period: float = MAX_PERIOD
) -> Float[np.ndarray, "N D"]:
    """[sin(m w), cos(m w)] with w_j = max_period^(-j / (dim/2)), j = 0..dim/2-1, in float64."""
    if dim % 2:
        raise ValueError(f"positions.sincos_1d: dim is {dim}, wanted an even number")
    frequencies = max_period ** (-np.arange(dim // 2) / (dim / 2))
    angles = positions[:, None] * frequencies[None, :]
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


@functools.lru_cache(maxsize=16)
def sincos_2d(
    height: int, width: int, dim: int, extent: float | None = None
) -> Float[np.ndarray, "N D"]:
    """The table of a height x width token grid in row-major order, float32 [height * width, dim].

    The first dim/2 features encode the column, the last dim/2 the row (docs/notes.md, Parts of DiT
    and Latte).

    Args:
      height: rows of the grid.
      width: its columns.
      dim: D.
      extent: both sides count from 0 up to it, whatever their number of tokens, as models of text
        have it (docs/notes.md, Parts of the models of text); None counts tokens.
    """
    if dim % 4:
        raise ValueError(f"positions.sincos_2d: dim is {dim}, wanted a multiple of 4")
    column, row = (
        sincos_1d(_coordinates(side, extent), dim // 2).astype(np.float32)
        for side in (width, height)
    )
    # Halves of all tokens in float64 would take six times the memory of the table.
    grid = np.empty((height, width, dim), np.float32)
    grid[..., : dim // 2], grid[..., dim // 2 :] = column[None], row[:, None]
    table = grid.reshape(height * width, dim)
    table.setflags(write=False)
    return table


def _coordinates(side: int, extent: float | None) -> Float[np.ndarray, "N"]:
    """Of the tokens along one side; the recorded tables stretch them in float32."""
    tokens = np.arange(side, dtype=np.float32)
    if extent is not None:
        tokens = tokens / np.float32(side / extent)
    return tokens.astype(np.float64)
