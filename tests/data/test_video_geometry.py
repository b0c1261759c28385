"""Videos are shown as players show them: display matrix, pixel aspect, transparency."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from skipdit_jax.data.clips import Window
from skipdit_jax.data.sources import BrokenExampleError
from skipdit_jax.data.videos import VideoSource

SIDE = 32
RED, BLUE = (255, 0, 0), (0, 0, 255)
ONE = 1 << 16


def lossless(path, frame, aspect=None):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "0"})
        stream.pix_fmt = "yuv444p"
        stream.height, stream.width = frame.shape[:2]
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def read(path, **options):
    (path.parent / "list").write_text(f"{path.name} 0\n")
    shape = {"size": (SIDE, SIDE), "channels": 3, "num_classes": 1}
    source = VideoSource(path.parent / "list", **shape, **options)
    return source.draw(0, Window(1), np.random.default_rng(0))["image"][0].astype(int)


@pytest.fixture(scope="module")
def stored():
    """Only the top left is red, only the top right blue."""
    frame = np.zeros((SIDE, SIDE, 3), np.uint8)
    frame[: SIDE // 2, : SIDE // 2], frame[: SIDE // 2, SIDE // 2 :] = RED, BLUE
    return frame


@pytest.fixture(scope="module")
def plain(tmp_path_factory, stored):
    return lossless(tmp_path_factory.mktemp("videos") / "plain.mp4", stored)


def with_matrix(plain, a, b, c, d):
    """The same video with another matrix in the header of its track."""
    data = bytearray(plain.read_bytes())
    unit = struct.pack(">9i", ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30)
    at = data.find(unit, data.find(b"tkhd"))
    data[at : at + len(unit)] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path = plain.with_name("turned.mp4")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "matrix",
    [
        *((x, 0, 0, y) for x in (1, -1) for y in (1, -1)),
        *((0, x, y, 0) for x in (1, -1) for y in (1, -1)),
    ],
)
def test_frames_are_turned_by_the_display_matrix(plain, stored, matrix):
    """ISO/IEC 14496-12: a stored pixel (x, y) is seen at (a x + c y, b x + d y)."""
    a, b, c, d = matrix
    path = with_matrix(plain, *(ONE * entry for entry in matrix))
    y, x = np.mgrid[:SIDE, :SIDE]
    seen_x, seen_y = a * x + c * y, b * x + d * y
    want = np.zeros(stored.shape)
    want[seen_y - seen_y.min(), seen_x - seen_x.min()] = stored
    np.testing.assert_allclose(read(path), want, atol=4)
    np.testing.assert_allclose(read(path, orientation="stored"), stored, atol=4)


def test_other_turns_are_refused(plain):
    half = round(ONE * np.sqrt(0.5))
    with pytest.raises(BrokenExampleError, match=r"turned\.mp4: is shown turned by .*quarter"):
        read(with_matrix(plain, half, half, -half, half))


@pytest.mark.parametrize("aspect", [Fraction(2, 1), Fraction(1, 2)])
def test_pixels_are_made_square(tmp_path, aspect):
    """A box that is seen as a square, whose pixels are twice as long one way as the other."""
    tall = aspect > 1
    frame = np.zeros((SIDE, SIDE // 2, 3) if tall else (SIDE // 2, SIDE, 3), np.uint8)
    long, short = slice(8, 24), slice(4, 12)
    frame[(long, short) if tall else (short, long)] = 255
    path = lossless(tmp_path / "a.mp4", frame, aspect)
    seen = read(path)[..., 0] > 127
    assert (seen.any(0).sum(), seen.any(1).sum()) == (16, 16)
    lying = read(path, orientation="stored")[..., 0] > 127
    assert lying.any(0).sum() != lying.any(1).sum()


def test_absurd_pixels_are_refused(tmp_path):
    path = lossless(tmp_path / "a.mp4", np.zeros((SIDE, SIDE, 3), np.uint8), Fraction(20, 1))
    with pytest.raises(BrokenExampleError, match=r"a\.mp4: has pixels of 20, wanted at most 16:1"):
        read(path)


def test_transparent_frames_lie_on_white(tmp_path):
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    pixels[:, : SIDE // 2] = 1
    image = Image.fromarray(pixels, "L").convert("P")
    image.putpalette([10, 20, 30, *RED])
    image.save(tmp_path / "a.gif", transparency=0)
    np.testing.assert_array_equal(np.unique(read(tmp_path / "a.gif")[:, 20:]), 255)
    np.testing.assert_array_equal(read(tmp_path / "a.gif")[0, 4], RED)
