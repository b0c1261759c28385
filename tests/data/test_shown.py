"""What a model is given is what a viewer shows: depth, transparency, orientation, by every reader.

Expected values follow from the formats: TIFF 6.0, PNG, and the table of EXIF 2.32 (section 4.6.4).
"""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from skipdit_jax.data.clips import Window
from skipdit_jax.data.config import DataConfig
from skipdit_jax.data.images import read_image
from skipdit_jax.data.open import open_data
from skipdit_jax.data.sources import BrokenExampleError, DataError
from skipdit_jax.data.tfds_source import TfdsSource
from skipdit_jax.data.transforms import ScalePixels

RAMP = np.arange(16).reshape(4, 4)
SIZE = RAMP.shape
SEEN = 17 * RAMP  # 0..255


def saved(pixels, format, **options):
    stored = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(stored, format, **options)
    return stored.getvalue()


def read(data, channels=1, **options):
    return read_image(data, name="x", size=SIZE, channels=channels, **options)


def tiff(data, *, bits, photometric=1, sample_format=1):
    """A TIFF of one grey strip, little-endian."""
    values = {256: 4, 257: 4, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 4}
    values |= {279: len(data), 339: sample_format}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items())
    start = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    return start + data + struct.pack("<H", len(values)) + entries + struct.pack("<I", 0)


def png16(pixels, colour_type):
    """A PNG of 16 bits [H,W,C]."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, colour_type, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def twelve_bits(values):
    """Two values in three bytes, the first bits first."""
    bits = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)[:, 4:]
    return np.packbits(bits).tobytes()


DEEP = {
    "png": lambda: saved((RAMP * 4369).astype(np.uint16), "PNG"),
    "ppm": lambda: saved((RAMP * 4369).astype(np.int32), "PPM"),
    "tiff, little-endian": lambda: saved((RAMP * 4369).astype("<u2"), "TIFF"),
    "tiff, big-endian": lambda: saved((RAMP * 4369).astype(">u2"), "TIFF"),
    "tiff, compressed": lambda: saved((RAMP * 4369).astype("<u2"), "TIFF", compression="tiff_lzw"),
    "tiff, white is zero": lambda: tiff(
        (65535 - RAMP * 4369).astype("<u2").tobytes(), bits=16, photometric=0
    ),
    "tiff of 12 bits": lambda: tiff(twelve_bits(RAMP * 273), bits=12),
    "tiff of 32 bits": lambda: tiff((RAMP * (2**32 // 15)).astype("<u4").tobytes(), bits=32),
    "tiff of floats": lambda: saved((RAMP / 15).astype(np.float32), "TIFF"),
    "tiff of floats, white is zero": lambda: tiff(
        (1 - RAMP / 15).astype("<f4").tobytes(), bits=32, photometric=0, sample_format=3
    ),
    "png of colours": lambda: png16(np.repeat(RAMP[..., None] * 4369, 3, -1), 2),
}


@pytest.mark.parametrize("name", DEEP)
def test_more_than_8_bits_are_scaled(name):
    data = DEEP[name]()
    for channels in (1, 3):
        np.testing.assert_array_equal(read(data, channels), SEEN[..., None].repeat(channels, -1))


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (saved((RAMP * 17).astype(np.float32), "TIFF"), "floats from 0 to 255, wanted 0 to 1"),
        (saved((RAMP - 1).astype(np.float32), "TIFF"), "floats from -1 to 14"),
        (saved(np.full(SIZE, np.nan, np.float32), "TIFF"), "floats from nan to nan"),
        (saved((RAMP - 8).astype(np.int32), "TIFF"), r"I of -8\.\.7 whose range is not told"),
        (tiff((RAMP - 8).astype("<i2").tobytes(), bits=16, sample_format=2), r"I of -8\.\.7"),
    ],
)
def test_unknown_ranges_are_refused_in_one_line(data, found):
    with pytest.raises(BrokenExampleError, match=f"^x: found [^\n]*{found}[^\n]*$"):
        read(data)


def test_floats_of_prepared_sets_lie_in_their_range():
    floats = {"image": np.array([[[0.0]], [[255.0]]])}
    with pytest.raises(
        DataError, match=r"floats from 0 to 255, wanted uint8 or float in \[-1, 1\]"
    ):
        ScalePixels().map(floats)


def with_alpha(mode):
    """Black that becomes transparent."""
    image = Image.new(mode, SIZE)
    image.putalpha(Image.fromarray((255 - SEEN).astype(np.uint8)))
    return image


def with_hole(mode, at):
    return Image.fromarray(SEEN.astype(np.uint8)).convert(mode), {"transparency": at}


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_pictures_lie_on_white(mode, format):
    np.testing.assert_array_equal(read(saved(with_alpha(mode), format))[..., 0], SEEN)


def test_deep_alpha_lies_on_white():
    pixels = np.stack([0 * RAMP, 65535 - RAMP * 4369], -1)
    np.testing.assert_array_equal(read(png16(pixels, 4))[..., 0], SEEN)


@pytest.mark.parametrize(
    ("mode", "at", "format"),
    [("L", 34, "PNG"), ("RGB", (34,) * 3, "PNG"), ("P", 34, "PNG"), ("P", 34, "GIF")],
)
def test_a_transparent_colour_is_white(mode, at, format):
    image, options = with_hole(mode, at)
    want = np.where(RAMP == 2, 255, SEEN)
    for channels in (1, 3):
        got = read(saved(image, format, **options), channels)
        np.testing.assert_array_equal(got, want[..., None].repeat(channels, -1))


def test_a_transparent_level_of_16_bits_is_white():
    data = saved((RAMP * 4369).astype(np.uint16), "PNG", transparency=2 * 4369)
    np.testing.assert_array_equal(read(data)[..., 0], np.where(RAMP == 2, 255, SEEN))


# EXIF: where the first row and the first column of the stored picture are seen.
SIDES = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


def upright(stored, value):
    seen = np.zeros_like(stored)
    last = len(stored) - 1
    for row, column in np.ndindex(stored.shape):
        place = {}
        for side, number in zip(SIDES[value], (row, column), strict=True):
            axis = "y" if side in ("top", "bottom") else "x"
            place[axis] = number if side in ("top", "left") else last - number
        seen[place["y"], place["x"]] = stored[row, column]
    return seen


def turned(value, format, **options):
    tags = Image.Exif()
    tags[0x112] = value
    return saved(SEEN.astype(np.uint8), format, exif=tags, **options)


@pytest.mark.parametrize(
    ("format", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})]
)
@pytest.mark.parametrize("value", SIDES)
def test_orientations_are_those_of_exif(value, format, options):
    data = turned(value, format, **options)
    np.testing.assert_array_equal(read(data)[..., 0], upright(SEEN, value))
    np.testing.assert_array_equal(read(data, orientation="stored")[..., 0], SEEN)


@pytest.mark.parametrize("value", [0, 9])
def test_orientations_that_mean_nothing_are_none(value):
    np.testing.assert_array_equal(read(turned(value, "PNG"))[..., 0], SEEN)


def test_tags_that_cannot_be_read_are_none():
    level = np.full(SIZE, 77, np.uint8)
    data = saved(level, "JPEG", exif=b"Exif\0\0no tags at all")
    np.testing.assert_array_equal(read(data)[..., 0], level)


def first_of(name, path, shape, **config):
    batches = open_data(
        DataConfig(name=name, path=str(path), **config),
        sample_shape=shape,
        num_classes=1,
        batch_size=1,
        seed=0,
    )
    return np.round((next(batches)["image"][0] + 1) * 127.5)[..., 0]


@pytest.mark.parametrize("orientation", ["upright", "stored"])
def test_every_reader_turns_pictures_alike(tmp_path, orientation):
    want = upright(SEEN, 6) if orientation == "upright" else SEEN
    (tmp_path / "pictures" / "cat").mkdir(parents=True)
    (tmp_path / "videos" / "cat" / "a").mkdir(parents=True)
    for place in ("pictures/cat/x.png", "videos/cat/a/0.png", "videos/cat/a/1.png"):
        (tmp_path / place).write_bytes(turned(6, "PNG"))
    options = {"orientation": orientation}
    picture = first_of("folder", tmp_path / "pictures", (*SIZE, 1), **options)
    np.testing.assert_array_equal(picture, want)
    frames = first_of("videos", tmp_path / "videos", (2, *SIZE, 1), **options)
    np.testing.assert_array_equal(frames, [want, want])
    encoded = turned(6, "PNG")
    records = [{"image": encoded, "video": [encoded], "label": 0}]
    fields = {"name": "x", "encoded": True, "size": SIZE, "channels": 1, "classes": ()}
    source = TfdsSource(records=records, feature="image", **fields, **options)
    np.testing.assert_array_equal(source[0]["image"][..., 0], want)
    source = TfdsSource(records=records, feature="video", **fields, **options)
    clip = source.draw(0, Window(1), np.random.default_rng(0))
    np.testing.assert_array_equal(clip["image"][0, ..., 0], want)


def test_other_orientations_are_refused():
    with pytest.raises(ValueError, match=r"data\.orientation: found 'lying', wanted one of"):
        DataConfig(name="digits", orientation="lying")
