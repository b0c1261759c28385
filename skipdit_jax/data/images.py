"""Picture files to square pixel arrays, the way of ADM (Dhariwal and Nichol, 2021).

ADM and, after it, DiT evaluate against statistics of ImageNet prepared like this: halve with a box
filter while both sides stay at least twice the target, resize the short side to the target with a
bicubic filter, cut the centre out.
"""

import io
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from skipdit_jax.data.sources import BrokenExampleError

MODES = {1: "L", 3: "RGB"}
"""Number of channels -> mode of Pillow."""

# What Pillow's decoders raise on damaged files; Pillow documents OSError, its PNG reader also
# raises SyntaxError, other readers ValueError, IndexError or EOFError.
DECODING_ERRORS = (OSError, SyntaxError, ValueError, IndexError, EOFError)


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """Returns the centre square of a picture, scaled to size x size as in ADM."""
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))


def read_image(
    file: Path | bytes, *, name: str, size: int, channels: int
) -> UInt8[np.ndarray, "H W C"]:
    """Decodes a picture, whatever its colours, to the centre square of `size` pixels.

    Args:
      file: path, or the encoded bytes.
      name: of the picture, for the error.
      size: H and W.
      channels: 1 (grey) or 3 (RGB).

    Raises:
      BrokenExampleError: it cannot be read or decoded.
    """
    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
            pixels = image.convert(MODES[channels])
    except (*DECODING_ERRORS, Image.DecompressionBombError) as error:
        raise BrokenExampleError(name, _reason(error)) from error
    return np.asarray(centre_crop(pixels, size)).reshape(size, size, channels)


def _reason(error: BaseException) -> str:
    """One line; Pillow's own text for an unknown format prints an object's address."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image that Pillow knows"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())
