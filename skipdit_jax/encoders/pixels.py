"""Between pixels and the scaled latents of a diffusion model, within bounds of memory.

Three ways to do less at a time: rows of the batch (exact), chunks of frames (as published for the
temporal decoder, whose chunks do not see each other), and tiles of each picture (near).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from skipdit_jax.encoders.vae import AutoencoderKL, Codes, Moments, Pixels
from skipdit_jax.typing import Params

DECODE_CHUNK = (
    14  # frames that the published pipelines decode at a time (docs/notes.md, Autoencoders)
)
OVERLAP = 16  # latents

CLIP_AXES = 5

Decode = Callable[[Array], Any]


@dataclass(frozen=True, kw_only=True)
class DecodeOptions:
    """How much is decoded at a time.

    Float32 scratch memory that XLA asks for on CPU with the published sizes: 0.9 GiB for a picture
    of 512x512, as often as there are `rows`; 3.5 GiB for one of 1024x1024, 0.9 GiB with tile 64.

    Attributes:
      rows: of the batch, frames counted as rows where they are decoded by themselves; None: all.
        A batch that is split over n devices wants a multiple of n.
      frames: of a clip, for the temporal decoder.
      tile: side in latents; None: the whole picture. Group norms and attention then see a tile
        instead of the picture, so that the result only comes near it.
      overlap: of neighbouring tiles at least, in latents; there one fades into the other.
    """

    rows: int | None = None
    frames: int = DECODE_CHUNK
    tile: int | None = None
    overlap: int = OVERLAP

    def __post_init__(self):
        """Raises ValueError, naming the field, for impossible numbers."""
        for name in ("rows", "frames", "tile"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"DecodeOptions: {name} is {value}, wanted 1 or more")
        if self.tile is not None and not 0 <= self.overlap < self.tile:
            raise ValueError(
                f"DecodeOptions: overlap is {self.overlap}, wanted 0 or more and less than tile "
                f"{self.tile}"
            )


@partial(jax.jit, static_argnames=("vae", "rows"))
def encode_pixels(
    vae: AutoencoderKL, params: Params, pixels: Pixels, rows: int | None = None
) -> Moments:
    """Encodes pictures or clips; `sample_moments(moments, key) * scaling_factor` are latents.

    Args:
      vae: the autoencoder.
      params: its parameters.
      pixels: [B,H,W,3] or [B,F,H,W,3] in [-1, 1].
      rows: of the batch, or frames, that are encoded at a time.
    """

    def encode(x: Array) -> Any:
        return vae.apply({"params": params}, x, method="encode")

    return _by_frame(_in_slices(encode, rows))(pixels)


@partial(jax.jit, static_argnames=("vae", "options"))
def decode_latents(
    vae: AutoencoderKL, params: Params, latents: Codes, options: DecodeOptions = DecodeOptions()
) -> Pixels:
    """Decodes what a diffusion model has drawn: divides by `scaling_factor` first.

    Args:
      vae: the autoencoder.
      params: its parameters.
      latents: [B,h,w,c] or [B,F,h,w,c].
      options: what is decoded at a time.

    Returns:
      Float32 pixels [B,H,W,3] or [B,F,H,W,3], about in [-1, 1]; `decoded_to_uint8` clips them.

    Raises:
      ValueError: rows do not divide the batch, or shapes that `AutoencoderKL.decode` refuses.
    """

    def whole(z: Array) -> Any:
        return vae.apply({"params": params}, z, method="decode")

    decode: Decode = whole
    if options.tile is not None:
        decode = _in_tiles(whole, options.tile, options.overlap, vae.config.factor)
    z = latents.astype(jnp.float32) / vae.config.scaling_factor
    if vae.config.CLIPS:
        return _in_slices(_in_chunks(decode, options.frames), options.rows)(z)
    return _by_frame(_in_slices(decode, options.rows))(z)


def _by_frame(function: Decode) -> Decode:
    """Frames of clips become rows."""

    def run(x: Array) -> Any:
        if x.ndim != CLIP_AXES:
            return function(x)
        out = function(x.reshape(-1, *x.shape[2:]))
        return jax.tree.map(lambda leaf: leaf.reshape(*x.shape[:2], *leaf.shape[1:]), out)

    return run


def _in_slices(function: Decode, rows: int | None) -> Decode:
    """Works on so many rows at a time.

    A slice takes every n-th row: of a batch that is split over devices, each has its part of it.
    """

    def run(x: Array) -> Any:
        count = x.shape[0]
        if rows is None or rows >= count:
            return function(x)
        if count % rows:
            raise ValueError(f"rows: {count} rows cannot be split into slices of {rows}")
        slices = x.reshape(rows, count // rows, *x.shape[1:]).swapaxes(0, 1)
        out = jax.lax.map(function, slices)
        return jax.tree.map(lambda leaf: leaf.swapaxes(0, 1).reshape(count, *leaf.shape[2:]), out)

    return run


def _in_chunks(decode: Decode, chunk: int) -> Decode:
    """Works on so many frames at a time; the last chunk may be shorter."""

    def run(z: Array) -> Array:
        batch, frames = z.shape[:2]
        whole = frames // chunk
        if frames <= chunk:
            return decode(z)
        chunks = z[:, : whole * chunk].reshape(batch, whole, chunk, *z.shape[2:]).swapaxes(0, 1)
        out = jax.lax.map(decode, chunks).swapaxes(0, 1)
        out = out.reshape(batch, whole * chunk, *out.shape[3:])
        if whole * chunk == frames:
            return out
        return jnp.concatenate([out, decode(z[:, whole * chunk :])], axis=1)

    return run


def _in_tiles(decode: Decode, tile: int, overlap: int, factor: int) -> Decode:
    """Works on overlapping squares, all of one shape, and blends them linearly."""

    def run(z: Array) -> Array:
        height, width = z.shape[-3:-1]
        side_y, side_x = min(tile, height), min(tile, width)
        starts_y, starts_x = (tile_starts(size, tile, overlap) for size in (height, width))
        if len(starts_y) * len(starts_x) == 1:
            return decode(z)
        fade_y = blend_weights(starts_y * factor, side_y * factor, height * factor)
        fade_x = blend_weights(starts_x * factor, side_x * factor, width * factor)
        lead = z.shape[:-3]

        def add(canvas: Array, place: Any) -> tuple[Array, None]:
            (y, down), (x, across) = place
            corner = (0,) * len(lead)
            part = decode(
                jax.lax.dynamic_slice(z, (*corner, y, x, 0), (*lead, side_y, side_x, z.shape[-1]))
            )
            part = part * (down[:, None] * across[None, :]).reshape(
                *(1,) * len(lead), *part.shape[-3:-1], 1
            )
            corner = (*corner, y * factor, x * factor, 0)
            part = part + jax.lax.dynamic_slice(canvas, corner, part.shape)
            return jax.lax.dynamic_update_slice(canvas, part, corner), None

        shape = jax.eval_shape(decode, z).shape
        grid = np.divmod(np.arange(len(starts_y) * len(starts_x)), len(starts_x))
        tiles = [
            (starts[index], fade[index])
            for starts, fade, index in zip(
                (starts_y, starts_x), (fade_y, fade_x), grid, strict=True
            )
        ]
        return jax.lax.scan(add, jnp.zeros(shape, jnp.float32), tuple(tiles))[0]

    return run


def tile_starts(size: int, tile: int, overlap: int) -> Int[np.ndarray, "n"]:
    """Where tiles begin so that they cover `size`, evenly, with at least that overlap.

    >>> tile_starts(10, 4, 1).tolist()
    [0, 3, 6]
    """
    if size <= tile:
        return np.zeros(1, np.int32)
    count = math.ceil((size - overlap) / (tile - overlap))
    return np.round(np.linspace(0, size - tile, count)).astype(np.int32)


def blend_weights(starts: Int[np.ndarray, "n"], side: int, size: int) -> Float[np.ndarray, "n s"]:
    """Weight of each place of each tile along one axis; over all tiles they sum to one.

    A tile fades in over what it shares with the one before, and out over what it shares with the
    one after.

    >>> blend_weights(np.array([0, 2]), 4, 6).tolist()
    [[1.0, 1.0, 0.75, 0.25], [0.25, 0.75, 1.0, 1.0]]
    """
    places = np.arange(side) + 0.5
    weights = np.ones((len(starts), side))
    for i, shared in enumerate(side - np.diff(starts)):
        if shared > 0:
            weights[i + 1] *= np.minimum(places / shared, 1)
            weights[i] *= np.minimum(places[::-1] / shared, 1)
    total = np.zeros(size)
    for start, weight in zip(starts, weights, strict=True):
        total[start : start + side] += weight
    return np.stack(
        [w / total[start : start + side] for start, w in zip(starts, weights, strict=True)]
    ).astype(np.float32)
