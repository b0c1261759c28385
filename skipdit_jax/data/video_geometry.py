"""A decoded frame as a player shows it: turned as its file asks, its pixels square, on white.

Files state the turn as a display matrix (ISO/IEC 14496-12, 6.2.2), which FFmpeg hands to each
frame, and how much wider than high a pixel is as the sample aspect ratio.
"""

from fractions import Fraction
from typing import Any

import numpy as np
from PIL import Image

from skipdit_jax.data.shown import on_white
from skipdit_jax.data.sources import BrokenExampleError

MOST_ASPECT = 16
"""Pixels wider or higher than this are no video's, and would take any amount of memory."""
_MATRIX, _SLOP = "DISPLAYMATRIX", 0.01

# x' = a x + c y, y' = b x + d y, x to the right and y down: (a, b, c, d) -> what Pillow does.
_TURNS = {
    (1, 0, 0, 1): None,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}


def frame_picture(frame: Any, stream: Any, name: str, orientation: str) -> Image.Image:
    """Returns a frame of PyAV as a picture of 8 bits, "RGB".

    Args:
      frame: decoded.
      stream: that it is of.
      name: of the file, for the error.
      orientation: "upright", or "stored" for the pixels as they lie.

    Raises:
      BrokenExampleError: the file asks for a turn by other than quarters, or for absurd pixels.
    """
    picture = _on_white(frame)
    if orientation != "upright":
        return picture
    turn = _turn(frame, name)
    aspect = stream.sample_aspect_ratio  # None, or 0 of type AVRational, where nothing is said
    if aspect:
        picture = _squared(picture, Fraction(aspect.numerator, aspect.denominator), name)
    return picture if turn is None else picture.transpose(turn)


def _on_white(frame: Any) -> Image.Image:
    if not any(component.is_alpha for component in frame.format.components):
        return frame.to_image()
    return on_white(Image.fromarray(frame.to_ndarray(format="rgba")), "RGB")


def _turn(frame: Any, name: str) -> Image.Transpose | None:
    found = frame.side_data.get(_MATRIX)
    if found is None:
        return None
    matrix = np.frombuffer(bytes(found), np.int32).reshape(3, 3)[:2, :2].astype(float)
    turn = np.round(scaled := matrix / max(1.0, np.abs(matrix).max()))
    key = tuple(turn.astype(int).ravel().tolist())
    if key not in _TURNS or np.abs(scaled - turn).max() > _SLOP:
        raise BrokenExampleError(name, f"is shown turned by {frame.rotation}, wanted quarter turns")
    return _TURNS[key]


def _squared(picture: Image.Image, aspect: Fraction, name: str) -> Image.Image:
    """Stretches the side that is short, so that nothing is lost before the picture is scaled."""
    if aspect == 1:
        return picture
    if not 1 / MOST_ASPECT <= aspect <= MOST_ASPECT:
        raise BrokenExampleError(name, f"has pixels of {aspect}, wanted at most {MOST_ASPECT}:1")
    wide, high = picture.size
    size = (round(wide * aspect), high) if aspect > 1 else (wide, round(high / aspect))
    return picture.resize(size, Image.Resampling.BICUBIC)
