import io

import numpy as np
import pytest
from PIL import Image

from skipdit_jax.data.images import centre_crop, read_image
from skipdit_jax.data.sources import BrokenExampleError


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def crop(pixels, size):
    size = size if isinstance(size, tuple) else (size, size)
    return np.asarray(centre_crop(Image.fromarray(pixels), size))


@pytest.mark.parametrize("shape", [(8, 8), (9, 31), (100, 17), (64, 64), (5, 7), (65, 33)])
def test_every_size_becomes_a_square_and_constants_stay(shape):
    got = crop(np.full((*shape, 3), 77, np.uint8), 8)
    np.testing.assert_array_equal(got, np.full((8, 8, 3), 77))


@pytest.mark.parametrize("shape", [(8, 8), (9, 31), (100, 17), (64, 64), (5, 7), (16, 32)])
@pytest.mark.parametrize("size", [(8, 16), (16, 8), (5, 3)])
def test_targets_need_not_be_square(shape, size):
    got = crop(np.full((*shape, 3), 77, np.uint8), size)
    np.testing.assert_array_equal(got, np.full((*size, 3), 77))


def test_oblong_targets_are_covered_from_the_middle():
    pixels = noise(32, 40)
    boxes = pixels.reshape(16, 2, 20, 2, 3).astype(float).mean((1, 3))
    np.testing.assert_allclose(crop(pixels, (10, 20)), boxes[3:13], atol=1)
    np.testing.assert_allclose(crop(pixels, (16, 10)), boxes[:, 5:15], atol=1)
    np.testing.assert_array_equal(crop(pixels, (20, 40)), pixels[6:26])


def test_no_scaling_is_a_plain_cut():
    pixels = noise(16, 40)
    np.testing.assert_array_equal(crop(pixels, 16), pixels[:, 12:28])
    pixels = noise(21, 16)
    np.testing.assert_array_equal(crop(pixels, 16), pixels[2:18])


@pytest.mark.parametrize("halvings", [1, 2, 3])
def test_powers_of_two_are_means_of_boxes(halvings):
    side, box = 8, 2**halvings
    pixels = noise(side * box, side * box)
    want = pixels.reshape(side, box, side, box, 3).astype(float).mean((1, 3))
    # Pillow scales rows, then columns, and rounds to whole levels after each.
    np.testing.assert_allclose(crop(pixels, side), want, atol=2 * 0.5 * halvings)


def test_rows_and_columns_are_treated_alike():
    pixels = noise(37, 90)
    np.testing.assert_array_equal(crop(pixels.swapaxes(0, 1), 16), crop(pixels, 16).swapaxes(0, 1))


def test_the_middle_is_kept():
    """A mirrored picture gives the mirrored cut where the margins are even."""
    pixels = noise(24, 48)
    got, mirrored = crop(pixels, 16), crop(pixels[:, ::-1], 16)
    np.testing.assert_allclose(mirrored[:, ::-1].astype(int), got, atol=1)


def test_a_ramp_stays_a_ramp_when_scaled():
    """Bicubic weights reproduce straight lines: 48 columns to 16 of a slope of three."""
    ramp = np.broadcast_to(np.arange(48, dtype=np.uint8)[None, :, None] * 5, (48, 48, 3))
    slopes = np.diff(crop(np.ascontiguousarray(ramp), 16)[8, 3:-3, 0].astype(int))
    np.testing.assert_allclose(slopes, 15, atol=1)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3])
def test_all_colours_are_read(mode, channels):
    stored = io.BytesIO()
    Image.fromarray(noise(16, 16)).convert(mode).save(stored, "TIFF")
    got = read_image(stored.getvalue(), name="x", size=(8, 8), channels=channels)
    assert (got.shape, got.dtype) == ((8, 8, channels), np.uint8)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[: len(data) // 2], "truncated"),
        (lambda data: b"not a picture", "not an image"),
        (lambda data: b"", "not an image"),
    ],
)
def test_damage_is_named_in_one_line(damage, reason):
    stored = io.BytesIO()
    Image.fromarray(noise(16, 16)).save(stored, "PNG")
    with pytest.raises(BrokenExampleError, match=f"^a/b.png: [^\n]*{reason}[^\n]*$"):
        read_image(damage(stored.getvalue()), name="a/b.png", size=(8, 8), channels=3)


def test_a_missing_file_is_named(tmp_path):
    path = tmp_path / "gone.png"
    with pytest.raises(BrokenExampleError, match=r"gone.png: No such file"):
        read_image(path, name=str(path), size=(8, 8), channels=3)
