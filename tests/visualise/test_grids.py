import numpy as np
import pytest
from PIL import Image

from skipdit_jax.visualise import grids


def pictures(count, height=2, width=3, channels=1):
    values = np.arange(count, dtype=np.uint8)[:, None, None, None]
    return np.broadcast_to(values, (count, height, width, channels)).copy()


def test_every_byte_survives_the_way_to_minus_one_one_and_back():
    levels = np.arange(256)
    images = (levels / 127.5 - 1.0).astype(np.float32).reshape(1, 16, 16, 1)
    assert grids.to_uint8(images).ravel().tolist() == levels.tolist()


def test_values_outside_are_clipped_and_not_wrapped():
    image = np.array([-3.0, -1.01, 1.01, 3.0], np.float32).reshape(1, 1, 4, 1)
    assert grids.to_uint8(image).ravel().tolist() == [0, 0, 255, 255]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(bad):
    with pytest.raises(ValueError, match="NaN or infinite"):
        grids.to_uint8(np.full((1, 1, 1, 1), bad, np.float32))


def test_enlarging_repeats_pixels():
    image = np.array([[1, 2], [3, 4]], np.uint8)[None, :, :, None]
    large = grids.enlarge(image, side=3)  # the smallest whole factor is 2
    assert large[0, :, :, 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]


def test_large_pictures_are_left_alone():
    image = pictures(1, grids.CELL, grids.CELL + 5)
    np.testing.assert_array_equal(grids.enlarge(image), image)


def test_cells_of_a_grid_hold_the_pictures_row_by_row():
    canvas = grids.make_grid(pictures(5), columns=3)
    m = grids.MARGIN
    assert canvas.shape == (m + 2 * (2 + m), m + 3 * (3 + m), 1)
    for i in range(5):
        top, left = m + i // 3 * (2 + m), m + i % 3 * (3 + m)
        assert (canvas[top : top + 2, left : left + 3] == i).all()
    inside = 5 * 2 * 3
    assert (canvas == grids.BACKGROUND).sum() == canvas.size - inside


@pytest.mark.parametrize(("count", "columns"), [(0, 1), (1, 0)])
def test_an_empty_grid_is_refused(count, columns):
    with pytest.raises(ValueError, match="grid"):
        grids.make_grid(pictures(count), columns)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_table_is_the_grid_with_room_for_its_titles(channels):
    rows = [pictures(2, 60, 60, channels), pictures(2, 60, 60, channels) + 7]
    table = grids.make_table(rows, ["full\n50 steps", "N=2"], ["0", "1"])
    cells = grids.make_grid(np.concatenate(rows), columns=2)
    height, width, _ = cells.shape
    np.testing.assert_array_equal(table[-height:, -width:], cells)
    left, top = table.shape[1] - width, table.shape[0] - height
    assert left > grids.text_size("full\n50 steps")[0]
    assert (table[top + 4 : top + 60, :left] < 128).any(), "no ink left of row 0"
    assert (table[top + 68 :, :left] < 128).any(), "no ink left of row 1"
    assert (table[:top, left:] < 128).any(), "no ink above the columns"


def test_other_titles_make_another_table():
    rows = [pictures(1, 60, 60)]
    one, other = (grids.make_table(rows, [title]) for title in ("N=2", "N=3"))
    assert one.shape != other.shape or (one != other).any()


@pytest.mark.parametrize(
    ("rows", "titles", "columns"),
    [
        ([pictures(2)], [], ()),
        ([pictures(2), pictures(3)], ["a", "b"], ()),
        ([pictures(2)], ["a"], ["0"]),
    ],
)
def test_a_table_with_the_wrong_titles_is_refused(rows, titles, columns):
    with pytest.raises(ValueError, match="table"):
        grids.make_table(rows, titles, columns)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_a_png_reads_back_bit_for_bit(tmp_path, channels, mode):
    canvas = np.random.default_rng(0).integers(0, 256, (5, 7, channels)).astype(np.uint8)
    grids.save_png(tmp_path / "a.png", canvas)
    with Image.open(tmp_path / "a.png") as image:
        assert (image.format, image.mode) == ("PNG", mode)
        np.testing.assert_array_equal(np.asarray(image).reshape(canvas.shape), canvas)


def test_a_png_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    grids.save_png(path, pictures(1)[0])
    before = path.read_bytes()

    def full_disk(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(grids.os, "replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        grids.save_png(path, pictures(2)[1])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_png_of_two_channels_is_refused(tmp_path):
    with pytest.raises(ValueError, match="2 channels"):
        grids.save_png(tmp_path / "a.png", pictures(1, channels=2)[0])
    assert not list(tmp_path.iterdir())
