"""What counts in people's folders and lists: links, dot files, other files, byte-order marks."""

import codecs
import logging
import os

import numpy as np
import pytest
from PIL import Image

from skipdit_jax.data.folder import FolderSource
from skipdit_jax.data.sources import ANY_CLASS
from skipdit_jax.data.videos import VideoSource

CLASSES = ("cat", "dog")


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8)).save(path, "PNG")


def pictures(root, num_classes=2):
    return FolderSource(root, size=(8, 8), channels=1, num_classes=num_classes)


def videos(path, num_classes=2):
    return VideoSource(path, size=(8, 8), channels=1, num_classes=num_classes)


@pytest.fixture
def photos(tmp_path):
    for name in CLASSES:
        picture(tmp_path / "photos" / name / "x.png")
    return tmp_path / "photos"


@pytest.fixture
def clips(tmp_path):
    for name in CLASSES:
        picture(tmp_path / "clips" / name / "x" / "0.png")
    return tmp_path / "clips"


def test_linked_folders_and_files_are_read(tmp_path, photos, clips):
    for number in range(3):
        picture(tmp_path / "store" / f"{number}.png")
        picture(tmp_path / "shelf" / str(number) / "0.png")
    os.symlink(tmp_path / "store", photos / "cat" / "more")
    os.symlink(tmp_path / "store" / "0.png", photos / "dog" / "y.png")
    os.symlink(tmp_path / "store", photos / "emu")
    assert len(pictures(photos, 3)) == 1 + 3 + 2 + 3
    os.symlink(tmp_path / "shelf", clips / "cat" / "more")
    os.symlink(tmp_path / "shelf" / "0", clips / "dog" / "y")
    assert len(videos(clips)) == 1 + 3 + 2


def test_links_in_circles_end(tmp_path, photos, clips):
    for root in (photos, clips):
        os.symlink(root, root / "cat" / "up")
        os.symlink(root / "cat", root / "cat" / "here")
        os.symlink("itself", root / "cat" / "itself")
    assert len(pictures(photos)) == len(videos(clips)) == 2
    # Two folders that lead to each other.
    for one, other in (("a", "b"), ("b", "a")):
        picture(tmp_path / "pair" / one / "x.png")
        os.symlink(tmp_path / "pair" / other, tmp_path / "pair" / one / "on")
    os.symlink(tmp_path / "pair" / "a", photos / "dog" / "pair")
    assert len(pictures(photos)) == 4


def test_names_with_a_dot_first_are_not_there(photos, clips):
    for place in (photos / "cat" / "._x.png", clips / "cat" / "x" / "._0.png"):
        place.write_bytes(b"\0\5\x16\7")
    picture(photos / ".trash" / "x.png")
    picture(photos / "cat" / ".thumbnails" / "x.png")
    (clips / "cat" / "._a.mp4").write_bytes(b"\0\5\x16\7")
    assert (len(pictures(photos)), len(videos(clips))) == (2, 2)
    assert pictures(photos).classes == videos(clips).classes == CLASSES


def test_what_is_passed_over_is_counted(photos, clips, caplog):
    for name in ("a.heic", "b.HEIC", "notes.txt"):
        (photos / "cat" / name).write_bytes(b"")
        (clips / "dog" / name).write_bytes(b"")
    picture(photos / "loose.png")
    os.mkfifo(photos / "dog" / "pipe.png")
    with caplog.at_level(logging.WARNING):
        assert (len(pictures(photos)), len(videos(clips))) == (2, 2)
    assert [record.getMessage() for record in caplog.records] == [
        f"data.path: {photos}: passed over 4 files that are no pictures known here: "
        "2 .heic, 1 .txt, 1 .png",
        f"data.path: {photos}: passed over 1 files beside the class folders: 1 .png",
        f"data.path: {clips}: passed over 3 files that are no videos or frames known here: "
        "2 .heic, 1 .txt",
    ]


def test_a_class_of_unknown_files_says_which(photos):
    (photos / "emu").mkdir()
    (photos / "emu" / "a.heic").write_bytes(b"")
    with pytest.raises(ValueError, match=r"emu has no images but 1 \.heic, wanted at least one"):
        pictures(photos, 3)


@pytest.mark.parametrize("ending", ["gif", "jfif", "tga", "JPE", "jp2", "pbm"])
def test_whatever_is_readable_is_read(photos, ending):
    path = photos / "cat" / f"y.{ending}"
    image = Image.new("1" if ending == "pbm" else "RGB", (8, 8), "white")
    image.save(path, {"jfif": "JPEG", "JPE": "JPEG", "pbm": "PPM"}.get(ending))
    source = pictures(photos)
    assert len(source) == 3
    assert source[1]["image"].min() > 250


def test_a_link_to_nothing_is_broken_not_passed_over(photos):
    os.symlink(photos / "gone.png", photos / "cat" / "y.png")
    with pytest.raises(ValueError, match=r"cat/y\.png: No such file or directory$"):
        pictures(photos)[1]


def test_a_flat_folder_is_for_models_without_labels(tmp_path):
    for name in ("b.png", "a.png"):
        picture(tmp_path / name)
    for classes in (1, ANY_CLASS):
        source = pictures(tmp_path, classes)
        assert ([one["label"] for one in source], source.classes) == ([0, 0], ())
    with pytest.raises(ValueError, match="has no class folders, wanted one for each class"):
        pictures(tmp_path, 2)


@pytest.mark.parametrize(
    "encoded",
    [
        "\ufeffa.mp4 0\r\nb \u00fc.mp4 1\r\n".encode(),
        codecs.BOM_UTF16_LE + "a.mp4 0\r\nb \u00fc.mp4 1\r\n".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "a.mp4 0\r\nb \u00fc.mp4 1\r\n".encode("utf-16-be"),
    ],
)
def test_lists_may_begin_with_a_byte_order_mark(tmp_path, encoded):
    (tmp_path / "list.txt").write_bytes(encoded)
    source = videos(tmp_path / "list.txt")
    assert [os.fsdecode(name) for name in source._names] == ["a.mp4", "b \u00fc.mp4"]
    np.testing.assert_array_equal(source._labels, [0, 1])
