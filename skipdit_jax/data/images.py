"""Picture files to pixel arrays of one size, the way of ADM (Dhariwal and Nichol, 2021).

ADM and, after it, DiT evaluate against statistics of ImageNet prepared like this: halve with a box
filter while both sides stay at least twice the target, resize the short side to the target with a
bicubic filter, cut the centre out. A target that is no square is covered instead: the side that is
short for it is the one resized.
"""

import io
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from skipdit_jax.data.shown import as_shown, on_white
from skipdit_jax.data.sources import unreadable

MODES = {1: "L", 3: "RGB"}
"""Number of channels -> mode of Pillow."""
ENDINGS = frozenset(
    {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}
    | {".jpe", ".jfif", ".jp2", ".j2k", ".jpx", ".apng", ".avif", ".gif", ".pbm", ".pnm", ".pfm"}
    | {".dib", ".tga"}
)
"""File names that count as pictures: those of torchvision's ImageFolder, and what else Pillow reads
that people keep pictures in."""

# What Pillow's decoders raise on damaged files; Pillow documents OSError, its PNG reader also
# raises SyntaxError, other readers ValueError, IndexError or EOFError.
DECODING_ERRORS = (OSError, SyntaxError, ValueError, IndexError, EOFError)


def centre_crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Returns the centre of a picture, scaled to `size` (H, W) as in ADM."""
    height, width = size
    while image.width >= 2 * width and image.height >= 2 * height:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = max(width / image.width, height / image.height)
    scaled = round(image.width * scale), round(image.height * scale)
    image = image.resize(scaled, Image.Resampling.BICUBIC)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def to_pixels(
    image: Image.Image, *, size: tuple[int, int], channels: int
) -> UInt8[np.ndarray, "H W C"]:
    """Returns the centre of a picture of 8 bits, whatever its colours, as `size` (H, W) pixels."""
    image = on_white(image, MODES[channels])
    return np.asarray(centre_crop(image, size)).reshape(*size, channels)


def read_image(
    file: Path | bytes,
    *,
    name: str,
    size: tuple[int, int],
    channels: int,
    orientation: str = "upright",
) -> UInt8[np.ndarray, "H W C"]:
    """Decodes a picture, whatever its colours and depth, to its centre of `size` pixels.

    Of several pictures in a file the first is taken.

    Args:
      file: path, or the encoded bytes.
      name: of the picture, for the error.
      size: (H, W).
      channels: 1 (grey) or 3 (RGB).
      orientation: "upright", as its file asks, or "stored"; see `shown.as_shown`.

    Raises:
      BrokenExampleError: it cannot be decoded, is not there, or its range is not known.
      DataError: the machine failed to read it.
    """
    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
            # This decodes: what follows can no longer fail.
            pixels = as_shown(image, MODES[channels], orientation=orientation)
    except (*DECODING_ERRORS, Image.DecompressionBombError) as error:
        raise unreadable(name, error, _reason(error)) from error
    return to_pixels(pixels, size=size, channels=channels)


def _reason(error: BaseException) -> str:
    """One line; Pillow's own text for an unknown format prints an object's address."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image that Pillow knows"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())
