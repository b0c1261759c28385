"""Pictures [B,H,W,C] in [-1, 1] to grids and labelled tables of bytes, and to PNG files."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import ExifTags, Image, ImageDraw, ImageFont, PngImagePlugin

from skipdit_jax.files import replacing_path

CELL = 96  # pixels of a cell's side at which a person reads an 8x8 digit without effort
MARGIN = 4  # pixels between cells and around them
BACKGROUND = 255
INK = 0
FONT_SIZE = 14
LINE_SPACING = 4
EXIF_BYTES = 60_000  # of a text: all of it has 65,533 bytes in a JPEG
DESCRIPTION = "Description"  # keyword of the PNG standard
PNG = {"format": "PNG"}
# Full colour and Pillow's highest useful quality; WebP without loss.
JPEG = {"format": "JPEG", "quality": 95, "subsampling": 0}
FORMATS: dict[str, dict[str, Any]] = {
    ".png": PNG,
    ".jpg": JPEG,
    ".jpeg": JPEG,
    ".webp": {"format": "WEBP", "lossless": True},
}
"""What a picture's suffix asks of Pillow."""

Pictures = UInt8[np.ndarray, "B H W C"]
Canvas = UInt8[np.ndarray, "height width C"]


def to_uint8(images: Float[np.ndarray, "*many C"]) -> UInt8[np.ndarray, "*many C"]:
    """Maps [-1, 1] to 0..255: 127.5 x + 128, clipped, the fraction cut off.

    This is the rule of the published DiT samples; the cut makes it 127.5 (x + 1), rounded half up.
    That of the published class-to-video samples, 255 (0.5 x + 0.5) + 0.5 clipped and cut, is the
    same number.

    Args:
      images: pictures or frames of clips.

    Raises:
      ValueError: values that are NaN or infinite.

    Examples:
      >>> to_uint8(np.array([[[[-2.0], [-1.0], [0.0], [1.0]]]])).ravel().tolist()
      [0, 0, 128, 255]
    """
    return np.clip(127.5 * _finite(images) + 128.0, 0, 255).astype(np.uint8)


def decoded_to_uint8(images: Float[np.ndarray, "*many C"]) -> UInt8[np.ndarray, "*many C"]:
    """Maps [-1, 1] to 0..255: x / 2 + 0.5, clipped to [0, 1], times 255, the fraction cut off.

    This is the rule of the published text-to-video samples of Latte for what their autoencoder
    decodes (docs/notes.md, Autoencoders): half a level darker than `to_uint8`.

    Args:
      images: pictures or frames of clips.

    Raises:
      ValueError: values that are NaN or infinite.

    Examples:
      >>> decoded_to_uint8(np.array([[[[-2.0], [-1.0], [0.0], [1.0]]]])).ravel().tolist()
      [0, 0, 127, 255]
    """
    return (np.clip(_finite(images) / 2 + 0.5, 0, 1) * 255).astype(np.uint8)


def _finite(images: np.ndarray) -> np.ndarray:
    check_finite(images, "pictures")
    return images


def check_finite(values: np.ndarray, what: str) -> None:
    """Raises ValueError, beginning with what they are, for values that are NaN or infinite."""
    if not np.isfinite(values).all():
        raise ValueError(f"{what}: some values are NaN or infinite, wanted finite numbers")


def enlarge(
    pictures: UInt8[np.ndarray, "*many H W C"], side: int = CELL
) -> UInt8[np.ndarray, "*many H2 W2 C"]:
    """Repeats pixels by the smallest whole factor that makes both sides at least `side`."""
    factor = max(1, -(-side // min(pictures.shape[-3:-1])))
    return pictures.repeat(factor, axis=-3).repeat(factor, axis=-2)


def make_grid(pictures: Pictures, columns: int) -> Canvas:
    """Lays pictures out row by row, with margins; the last row may end early.

    Raises:
      ValueError: no pictures, or columns < 1.
    """
    count, height, width, channels = pictures.shape
    if count < 1 or columns < 1:
        raise ValueError(f"grid: {count} pictures in {columns} columns, wanted 1 or more of each")
    rows = -(-count // columns)
    shape = (MARGIN + rows * (height + MARGIN), MARGIN + columns * (width + MARGIN), channels)
    canvas = np.full(shape, BACKGROUND, np.uint8)
    for i, picture in enumerate(pictures):
        top = MARGIN + i // columns * (height + MARGIN)
        left = MARGIN + i % columns * (width + MARGIN)
        canvas[top : top + height, left : left + width] = picture
    return canvas


def make_table(
    rows: Sequence[Pictures], row_titles: Sequence[str], column_titles: Sequence[str] = ()
) -> Canvas:
    """A grid with a row per batch, its title (may have several lines) at the left.

    Args:
      rows: batches of one shape [B,H,W,C].
      row_titles: one per row.
      column_titles: one per column, or none.

    Raises:
      ValueError: batches of different shapes, or not one title for each row and column.
    """
    if len({row.shape for row in rows}) != 1 or len(rows) != len(row_titles):
        raise ValueError(
            f"table: {len(row_titles)} titles for batches of shapes {[row.shape for row in rows]}"
        )
    count, height, width, _ = rows[0].shape
    if len(column_titles) not in (0, count):
        raise ValueError(f"table: {len(column_titles)} column titles for {count} columns")
    cells = make_grid(np.concatenate(list(rows)), columns=count)
    left = 2 * MARGIN + max(text_size(title)[0] for title in row_titles)
    top = MARGIN + max((text_size(title)[1] for title in column_titles), default=0)
    canvas = Image.new("L", (left + cells.shape[1], top + cells.shape[0]), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for i, title in enumerate(row_titles):
        _write(draw, (MARGIN, top + MARGIN + i * (height + MARGIN)), title)
    for i, title in enumerate(column_titles):
        _write(draw, (left + MARGIN + i * (width + MARGIN), MARGIN), title)
    table = np.asarray(canvas)[:, :, None].repeat(cells.shape[2], axis=2)
    table[top:, left:] = cells
    return table


def text_size(text: str) -> tuple[int, int]:
    """(width, height) in pixels of a text in the font of titles."""
    draw = ImageDraw.Draw(Image.new("L", (1, 1)))
    _, _, right, bottom = draw.multiline_textbbox((0, 0), text, _font(), spacing=LINE_SPACING)
    return int(np.ceil(right)), int(np.ceil(bottom))


def save_png(path: str | os.PathLike[str], canvas: Canvas) -> None:
    """Writes a PNG of 1 or 3 channels, whatever its suffix; see `save_picture`."""
    _save(path, canvas, PNG)


def save_picture(path: str | os.PathLike[str], canvas: Canvas, description: str = "") -> None:
    """Writes a picture as its suffix says, see FORMATS; the file appears whole or not at all.

    Args:
      path: ends in one of FORMATS.
      canvas: the picture.
      description: text that the file carries: of a PNG as "Description", of others in their EXIF.

    Raises:
      ValueError: another suffix, or neither 1 nor 3 channels.
      OSError: the file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"{path}: wanted a name that ends in {' or '.join(FORMATS)}")
    _save(path, canvas, FORMATS[suffix] | _described(suffix, description))


def _described(suffix: str, text: str) -> dict[str, Any]:
    """What Pillow is told to put a text into a file."""
    if not text:
        return {}
    if suffix == ".png":
        info = PngImagePlugin.PngInfo()
        info.add_itxt(DESCRIPTION, text)
        return {"pnginfo": info}
    exif = Image.Exif()
    shortened = text.encode()[:EXIF_BYTES].decode(errors="ignore")
    exif[ExifTags.Base.ImageDescription] = shortened.encode()
    return {"exif": exif}


def _save(path: str | os.PathLike[str], canvas: Canvas, options: dict[str, Any]) -> None:
    if canvas.shape[2] not in (1, 3):
        raise ValueError(f"{path}: a picture of {canvas.shape[2]} channels, wanted 1 or 3")
    with replacing_path(path) as temporary:
        to_image(canvas).save(temporary, **options)


def to_image(canvas: Canvas) -> Image.Image:
    """The picture as Pillow knows it, grey or colour."""
    return Image.fromarray(canvas[:, :, 0] if canvas.shape[2] == 1 else canvas)


def _write(draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str) -> None:
    draw.multiline_text(place, text, INK, _font(), spacing=LINE_SPACING)


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(FONT_SIZE)
