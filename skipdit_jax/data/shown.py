"""A decoded picture as a viewer shows it: upright, its whole range in 8 bits, and on white.

What files say beyond their pixels and what is done with it stands in docs/training.md, "What a
model is shown". Not heeded, as by most viewers: gamma, ICC profiles, the density of pictures.
"""

import struct

import numpy as np
from jaxtyping import Float, Integer, UInt8
from PIL import ExifTags, Image

ORIENTATIONS = ("upright", "stored")
"""How a picture or video is turned: as its file asks, or as its pixels lie."""
WHITE = (255, 255, 255, 255)
_BYTE = 255

# EXIF 2.32, section 4.6.4: the value of tag Orientation -> what makes the picture upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNS_BACK = {**_TURNS, 6: _TURNS[8], 8: _TURNS[6]}

# Formats whose samples Pillow hands over in 16 bits, whatever it calls them (PNG was "I" once).
_SIXTEEN_BITS = {"PNG": 2**16 - 1, "PPM": 2**16 - 1, "JPEG2000": 2**16 - 1}
# TIFF 6.0, section 8 and "SampleFormat".
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_WHITE_IS_ZERO, _UNSIGNED, _FLOAT = 0, 1, 3


def as_shown(image: Image.Image, mode: str, *, orientation: str = "upright") -> Image.Image:
    """Decodes an opened picture and returns it as a viewer shows it.

    Args:
      image: as `Image.open` gives it, not loaded.
      mode: "L" or "RGB".
      orientation: one of `ORIENTATIONS`; "stored" leaves the pixels where they lie.

    Raises:
      ValueError: samples of more than 8 bits whose range the file does not tell.
      Exception: whatever Pillow's decoders raise on damaged files, see `images.DECODING_ERRORS`.
    """
    asked = _orientation(image)
    image.load()
    done = asked != _orientation(image)  # Pillow turns TIFF by itself
    flat = _flat(image, mode)
    if (orientation == "upright") != done:
        turn = (_TURNS_BACK if done else _TURNS).get(asked or 0)
        return flat if turn is None else flat.transpose(turn)
    return flat


def on_white(image: Image.Image, mode: str) -> Image.Image:
    """Returns a picture of 8 bits, "L" or "RGB", laid on white where it is transparent."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image)
    return image if image.mode == mode else image.convert(mode)


def _flat(image: Image.Image, mode: str) -> Image.Image:
    if image.mode != "F" and image.mode.partition(";")[0] != "I":
        return on_white(image, mode)
    values = np.asarray(image)
    grey = _of_floats(values, image) if image.mode == "F" else _of_integers(values, image)
    if _tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO:  # which Pillow heeds up to 8 bits
        grey = _BYTE - grey
    key = image.info.get("transparency")
    if isinstance(key, int):  # a PNG's: this value is not there
        grey = np.where(values == key, np.uint8(_BYTE), grey)
    return Image.fromarray(grey).convert(mode)


def _of_integers(
    values: Integer[np.ndarray, "H W"], image: Image.Image
) -> UInt8[np.ndarray, "H W"]:
    """Scales 0..most to 0..255, rounded."""
    most = _SIXTEEN_BITS.get(image.format or "")
    bits = _tag(image, _BITS_PER_SAMPLE)
    if bits is not None and _tag(image, _SAMPLE_FORMAT) in (None, _UNSIGNED):
        most = 2**bits - 1
        values = values.view(np.uint32) if bits == 32 else values  # Pillow's own are signed
    if most is None:
        found = f"{image.mode} of {values.min()}..{values.max()}"
        raise ValueError(f"found samples {found} whose range is not told, wanted 8 or 16 bits")
    return ((values.astype(np.uint64) * _BYTE + most // 2) // most).astype(np.uint8)


def _of_floats(values: Float[np.ndarray, "H W"], image: Image.Image) -> UInt8[np.ndarray, "H W"]:
    low, high = float(values.min()), float(values.max())
    if not 0 <= low <= high <= 1:  # NaN is not either
        raise ValueError(f"found floats from {low:g} to {high:g}, wanted 0 to 1")
    return np.round(values * _BYTE).astype(np.uint8)


def _tag(image: Image.Image, number: int) -> int | None:
    """The first value of a TIFF's tag; None where there is none."""
    value = getattr(image, "tag_v2", {}).get(number)
    return value[0] if isinstance(value, tuple) else value


def _orientation(image: Image.Image) -> int | None:
    """What EXIF says; nothing where it cannot be read: then viewers show what is stored."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except (OSError, SyntaxError, ValueError, KeyError, IndexError, struct.error):
        return None
