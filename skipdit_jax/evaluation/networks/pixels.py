"""From pictures and clips of any size to what the networks of metrics read.

Evaluators differ in how they resize, by up to 5 % of a feature: numbers of different rules must
not be compared (docs/notes.md, Metrics). All are bilinear, none smooths before it shrinks:

(1)  out_i = (1 - f) in_⌊s⌋ + f in_⌊s⌋+1,   f = s - ⌊s⌋

     s = i n / m                           TensorFlow 1, of ADM and torch-fidelity
     s = max((i + ½) n / m - ½, 0)         half pixels, of pytorch-fid and of FVD

for m pixels made of n.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from skipdit_jax.evaluation.networks import i3d, inception

Grid = Num[Array, "B H W C"]
LEVELS = 255.0  # of a pixel of 8 bits
MIDDLE = 128.0  # what ADM takes for the middle of them, and for the half of their range

RULES = ("adm", "pytorch-fid")
"""How pictures are made ready for InceptionV3."""

CLIP_RULES = ("stylegan-v", "videogpt")
"""How clips are made ready for I3D."""


def _along(x: Array, axis: int, wanted: int, half_pixels: bool) -> Array:
    """Equation (1) along one axis; neighbours are picked, which is faster than to multiply."""
    size = x.shape[axis]
    i = np.arange(wanted, dtype=np.float64)
    s = np.maximum((i + 0.5) * size / wanted - 0.5, 0) if half_pixels else i * size / wanted
    low = np.minimum(s.astype(np.int64), size - 1)
    f = jnp.asarray(s - low, jnp.float32).reshape(*(1,) * axis, -1, *(1,) * (x.ndim - 1 - axis))
    beyond = np.minimum(low + 1, size - 1)
    near, far = (jnp.take(x, places, axis=axis, mode="clip") for places in (low, beyond))
    return (1 - f) * near + f * far


def resize(x: Grid, height: int, width: int, half_pixels: bool) -> Float[Array, "B H2 W2 C"]:
    """Resizes pictures bilinearly (1), in float32.

    Args:
      x: [B,H,W,C].
      height: wanted.
      width: wanted.
      half_pixels: which rule.
    """
    if x.shape[1:3] == (height, width):
        return x.astype(jnp.float32)
    return _along(_along(x.astype(jnp.float32), 2, width, half_pixels), 1, height, half_pixels)


def for_inception(levels: Grid, rule: str = "adm") -> Float[Array, "B 299 299 3"]:
    """Pixels of 0..255 as InceptionV3 reads them, about [-1, 1]; one channel is taken for three.

    Args:
      levels: [B,H,W,1 or 3], whole numbers in any type.
      rule: of `RULES`.

    Raises:
      ValueError: another rule, or other channels.
    """
    if rule not in RULES:
        raise ValueError(f"for_inception: found rule {rule!r}, wanted one of {RULES}")
    x = _coloured(levels.astype(jnp.float32))
    if rule == "adm":
        return (resize(x, inception.SIDE, inception.SIDE, False) - MIDDLE) / MIDDLE
    return 2 * resize(x / LEVELS, inception.SIDE, inception.SIDE, True) - 1


def for_i3d(clips: Float[Array, "B F H W C"], rule: str = "stylegan-v") -> Array:
    """Clips in [0, 1] as I3D reads them: [B,F,224,224,3] in [-1, 1].

    The shorter side becomes 224 pixels, the longer one is cut to its middle.

    Args:
      clips: [B,F,H,W,1 or 3].
      rule: of `CLIP_RULES`; "videogpt" cuts pixels to whole levels of 0..255 before.

    Raises:
      ValueError: another rule, or other channels.
    """
    if rule not in CLIP_RULES:
        raise ValueError(f"for_i3d: found rule {rule!r}, wanted one of {CLIP_RULES}")
    x = _coloured(clips.astype(jnp.float32))
    if rule == "videogpt":
        x = jnp.floor(x * LEVELS) / LEVELS
    batch, frames, height, width, channels = x.shape
    short = min(height, width)
    tall, wide = (-(-n * i3d.SIDE // short) for n in (height, width))  # the longer one rounds up
    x = resize(x.reshape(-1, height, width, channels), tall, wide, half_pixels=True)
    top, left = ((n - i3d.SIDE) // 2 for n in (tall, wide))
    x = x[:, top : top + i3d.SIDE, left : left + i3d.SIDE]
    return 2 * x.reshape(batch, frames, i3d.SIDE, i3d.SIDE, channels) - 1


def _coloured(x: Array) -> Array:
    if x.shape[-1] not in (1, 3):
        raise ValueError(f"pictures: found {x.shape[-1]} channels, wanted 1 or 3")
    return jnp.broadcast_to(x, (*x.shape[:-1], 3))
