"""What stands in folders and lists of videos, and what of it is broken."""

import logging
import sys

import numpy as np
import pytest

from skipdit_jax.data.config import DataConfig
from skipdit_jax.data.open import open_data
from skipdit_jax.data.sources import ANY_CLASS
from tests.data.pictures import cut_short
from tests.data.videos import (
    CLASSES,
    CLIP,
    FRAMES,
    SPAN,
    number_of,
    numbers,
    open_videos,
    take,
    write_frames,
    write_video,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two classes of one video each; not to be changed."""
    root = tmp_path_factory.mktemp("whole")
    write_video(root / "cat" / "b.mp4")
    write_frames(root / "dog" / "d", count=SPAN, first=30)
    return root


# What is there.


def test_without_classes_labels_are_zero(tmp_path):
    write_frames(tmp_path / "a", count=SPAN)
    write_frames(tmp_path / "b", count=SPAN, first=20)
    for classes in (ANY_CLASS, 1):
        batch = next(open_videos(tmp_path, classes=classes, shuffle=False, batch_size=2))
        assert batch["label"].tolist() == [0, 0]
        assert [numbers(clip)[0] for clip in batch["image"]] == [0, 20]
    with pytest.raises(ValueError, match="has no classes, wanted one of 2 for each video"):
        open_videos(tmp_path)


def test_a_model_without_labels_takes_any_classes(whole):
    assert next(open_videos(whole, classes=ANY_CLASS))["label"].max() == 1


@pytest.mark.parametrize(
    ("text", "classes", "labels"),
    [
        ("x/a clip 1\nb 0\n\n", 2, [1, 0]),
        ("b\t 0\nx/a clip\t1", 2, [0, 1]),
        ("b\nx/a clip\n", 1, [0, 0]),
    ],
)
def test_lists_are_relative_to_their_folder(tmp_path, text, classes, labels):
    write_frames(tmp_path / "x" / "a clip", count=SPAN)
    write_frames(tmp_path / "b", count=SPAN, first=20)
    (tmp_path / "train.txt").write_text(text)
    batch = next(open_videos(tmp_path / "train.txt", classes=classes, shuffle=False, batch_size=2))
    assert batch["label"].tolist() == labels
    first = [numbers(clip)[0] for clip in batch["image"]]
    assert first == ([0, 20] if text.startswith("x") else [20, 0])


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", r"train\.txt is an empty list"),
        ("a 1\nb\n", r"train\.txt:2: no label, wanted one in every line or in none"),
        ("a 1\nb 2\n", r"train\.txt: label 2, wanted 0\.\.1 \(num_classes\)"),
        ("a 1\nb -1\n", r"train\.txt: label -1"),
        ("a\nb\n", r"train\.txt has no classes"),
    ],
)
def test_bad_lists_are_named(tmp_path, text, named):
    (tmp_path / "train.txt").write_text(text)
    with pytest.raises(ValueError, match=f"^[^\n]*{named}[^\n]*$"):
        open_videos(tmp_path / "train.txt")


def test_a_video_is_no_list(whole):
    with pytest.raises(ValueError, match=r"b\.mp4 is no text, wanted a folder or a list"):
        open_videos(whole / "cat" / "b.mp4")


def test_bad_folders_are_named(tmp_path):
    with pytest.raises(ValueError, match="no folder or list"):
        open_videos(tmp_path / "gone")
    with pytest.raises(ValueError, match="has no videos, wanted at least one"):
        open_videos(tmp_path)
    write_frames(tmp_path / "cat" / "a", count=1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no video")
    with pytest.raises(ValueError, match=r"folder .*/empty has no videos"):
        open_videos(tmp_path)
    (tmp_path / "empty" / "notes.txt").rename(tmp_path / "empty" / "b.mp4")
    with pytest.raises(ValueError, match=r"label 1, wanted 0\.\.0 \(num_classes\)"):
        open_videos(tmp_path, classes=1)
    (tmp_path / "loose.mp4").write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"has videos \(loose.mp4\) beside folders of videos \(cat"
    ):
        open_videos(tmp_path)
    (tmp_path / "cat" / "a" / "b.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match=r"cat/a has pictures \(000\.png\) beside b\.mp4"):
        open_videos(tmp_path)
    with pytest.raises(ValueError, match=r"a holds pictures \(000\.png\), wanted videos"):
        open_videos(tmp_path / "cat" / "a")


def test_the_model_must_fit(whole):
    with pytest.raises(ValueError, match=r"data\.num_frames: found 8, wanted the model's 4"):
        open_videos(whole, num_frames=8)
    with pytest.raises(ValueError, match="wanted the model's 4; latents are"):
        open_videos(whole, shape=(FRAMES, 8, 8, 4))
    with pytest.raises(ValueError, match=r"'videos' gives clips, wanted images \(8, 8, 3"):
        open_videos(whole, shape=(8, 8, 3), frame_stride=1)
    with pytest.raises(ValueError, match=r"found \(None, 3, 0\), wanted none for a model"):
        open_videos(whole, shape=(8, 8, 3))
    with pytest.raises(ValueError, match="'folder' gives images, wanted clips"):
        open_data(
            DataConfig(name="folder", path=str(whole)),
            sample_shape=CLIP,
            num_classes=CLASSES,
            batch_size=1,
            seed=0,
        )


def test_a_missing_library_is_named_at_once(whole, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"^[^\n]*b\.mp4: found no av, wanted: [^\n]*$"):
        open_videos(whole)


def test_frames_need_no_library(tmp_path, monkeypatch):
    write_frames(tmp_path / "cat" / "a", count=SPAN)
    monkeypatch.setitem(sys.modules, "av", None)
    assert next(open_videos(tmp_path))["image"].shape == (4, *CLIP)


# What is broken.


def spoil(tree):
    """Makes b too short and c unreadable."""
    (tree / "cat" / "b" / "009.png").unlink()
    cut_short(tree / "cat" / "c" / "003.png")


def test_short_and_unreadable_videos_stop_with_their_name(tree):
    spoil(tree)
    with pytest.raises(ValueError, match="9 frames") as caught:
        take(open_videos(tree, shuffle=False), 1)
    assert str(caught.value) == f"{tree}/cat/b: 9 frames, wanted 4 at stride 3 (10)"
    (tree / "cat" / "b").rename(tree / "cat" / "e")
    with pytest.raises(ValueError, match="truncated") as caught:
        take(open_videos(tree, shuffle=False), 1)
    assert str(caught.value) == f"{tree}/cat/c/003.png: image file is truncated"


def test_the_next_video_stands_in_and_others_stay(tree, caplog):
    sound = take(open_videos(tree, flip=True), 4)
    assert {number_of(c[0]) for batch in sound for c in batch["image"]} == {0, 12, 24, 36}
    spoil(tree)
    with caplog.at_level(logging.WARNING):
        data = open_videos(tree, flip=True, skip_broken=True)
        got = take(data, 4)
    for one, other in zip(got, sound, strict=True):
        for clip, before in zip(one["image"], other["image"], strict=True):
            if numbers(before)[0] in (12, 24):
                assert numbers(clip)[0] == 36
            else:
                np.testing.assert_array_equal(clip, before)
    assert data.broken == {
        f"{tree}/cat/b": "9 frames, wanted 4 at stride 3 (10)",
        f"{tree}/cat/c/003.png": "image file is truncated",
    }
    assert len([r for r in caplog.records if "skipped" in r.getMessage()]) == 2


def test_nothing_but_broken_videos_stops(tree):
    with pytest.raises(ValueError, match=r"all 4 examples are broken, .*10 frames, wanted 16"):
        next(open_videos(tree, skip_broken=True, shape=(16, 8, 8, 3)))


def test_videos_of_a_list_that_are_gone_are_broken(tree):
    (tree / "list").write_text("cat/a 0\ncat/gone.mp4 0\n")
    with pytest.raises(ValueError, match=r"gone\.mp4: No such file"):
        next(open_videos(tree / "list"))
    data = open_videos(tree / "list", skip_broken=True)
    assert next(data)["image"].shape == (4, *CLIP)
    assert [*data.broken] == [f"{tree}/cat/gone.mp4"]
