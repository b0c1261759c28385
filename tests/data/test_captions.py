"""Captions beside files, in lists and in tar shards: what is read, and what is refused."""

import json

import numpy as np
import pytest

from skipdit_jax.data.captioned import CaptionedClips, CaptionedImages, open_captioned
from skipdit_jax.data.clips import Window
from skipdit_jax.data.config import DataConfig
from skipdit_jax.data.open import open_data, open_once
from skipdit_jax.data.sources import ANY_CLASS, BrokenExampleError
from tests.data.captioned import WORDS, write_captioned, write_list, write_shards, write_tar
from tests.data.pictures import cut_short
from tests.data.videos import number_of, write_video

SHAPE = (16, 16, 3)


def opened(path):
    config = DataConfig(name="captioned", path=str(path))
    return open_once(config, sample_shape=SHAPE, num_classes=ANY_CLASS, seed=0)


@pytest.fixture
def ways(tmp_path):
    folder = write_captioned(tmp_path / "set")
    return {
        "folder": folder,
        "list": write_list(folder, tmp_path / "list.jsonl"),
        "shards": write_shards(folder, tmp_path / "shards"),
    }


def test_three_ways_to_keep_captions_are_one_set(ways):
    found = {}
    for way, path in ways.items():
        examples = [opened(path)[index] for index in range(len(opened(path)))]
        assert [one["caption"] for one in examples] == list(WORDS)
        found[way] = np.stack([one["image"] for one in examples])
    assert found["folder"].shape == (len(WORDS), *SHAPE)
    assert len({images.tobytes() for images in found.values()}) == 1


def test_clips_in_a_shard_are_those_of_their_files(tmp_path):
    pytest.importorskip("av")
    (tmp_path / "set").mkdir()
    video = write_video(tmp_path / "set" / "a.mp4", count=12, g=4)
    (tmp_path / "set" / "a.txt").write_text("grey")
    write_tar(tmp_path / "x.tar", [("a.mp4", video.read_bytes()), ("a.txt", b"grey")])
    cut = video.read_bytes()[:200]
    write_tar(tmp_path / "cut.tar", [("a.mp4", cut), ("a.txt", b"grey")])

    def drawn(path):
        clips = CaptionedClips(open_captioned(path, clips=True), size=(16, 16), channels=3)
        return clips.draw(0, Window(3, 2), np.random.default_rng(0))

    one, other = drawn(tmp_path / "set"), drawn(tmp_path / "x.tar")
    assert one["caption"] == other["caption"] == "grey"
    np.testing.assert_array_equal(one["image"], other["image"])
    first = number_of(one["image"][0])
    assert [number_of(frame) for frame in one["image"]] == [first, first + 2, first + 4]
    with pytest.raises(BrokenExampleError, match=r"cut\.tar/a\.mp4: "):
        drawn(tmp_path / "cut.tar")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r"0\.json: no caption: Expecting value"),
        ('{"words": "a"}', r"0\.json: no caption: found .*wanted a text under caption or text"),
        ('["a"]', "wanted a text under caption or text"),
        ('{"caption": " "}', r"0\.json: the caption is empty"),
        (None, r"0\.png: no caption (beside it|of its key), wanted (0|a )\.txt"),
    ],
)
def test_a_bad_caption_is_a_broken_example(tmp_path, text, told):
    folder = write_captioned(tmp_path / "set", 2)
    (folder / "0.txt").unlink()
    if text is not None:
        (folder / "0.json").write_text(text)
    with pytest.raises(BrokenExampleError, match=told) as caught:
        opened(folder)[0]
    assert "\n" not in str(caught.value)
    assert opened(folder)[1]["caption"] == WORDS[1]
    shards = write_shards(folder, tmp_path / "shards")
    with pytest.raises(BrokenExampleError, match=told):
        opened(shards)[0]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("nothing", "list.jsonl:2: Expecting value"),
        ('{"file": "a.png"}', "list.jsonl:2: found .* wanted a text under caption or text"),
        ('{"caption": "a"}', "list.jsonl:2: found .* wanted a name under file"),
        ('{"file": "a.png", "text": ""}', "list.jsonl:2: the caption is empty"),
    ],
)
def test_a_bad_line_of_a_list_is_told_with_its_number(tmp_path, line, told):
    good = json.dumps({"file": "a.png", "text": "a"})
    (tmp_path / "list.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(ValueError, match=told):
        opened(tmp_path / "list.jsonl")


def test_sources_without_captions_are_refused(tmp_path):
    folder = write_captioned(tmp_path / "set", 1)
    (tmp_path / "no").mkdir()
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "no.tar").write_bytes(b"nothing" * 100)
    write_tar(tmp_path / "none.tar", [("a.txt", b"words")])
    write_tar(tmp_path / "bare.tar", [("a.png", b"picture")])
    for path, told in (
        ("gone", "no folder, .tar or .jsonl"),
        ("no", "holds no pictures"),
        ("empty.jsonl", "is an empty list"),
        ("no.tar", "no.tar: no tar that is not compressed"),
        ("none.tar", "holds no pictures"),
        ("bare.tar", "holds no captions, wanted KEY.txt"),
    ):
        with pytest.raises(ValueError, match=told):
            opened(tmp_path / path)
    (folder / "0.txt").unlink()
    with pytest.raises(ValueError, match=r"holds no captions, wanted 0\.txt or 0\.json"):
        opened(folder)
    config = DataConfig(name="captioned", path=str(folder))
    with pytest.raises(ValueError, match="wanted 'latents' made by"):
        open_data(config, sample_shape=SHAPE, num_classes=1, batch_size=1, seed=0)


def test_broken_pictures_are_named_by_their_shard(ways, tmp_path):
    cut_short(ways["folder"] / "1.png")
    shards = write_shards(ways["folder"], tmp_path / "again")
    with pytest.raises(BrokenExampleError, match=r"00000\.tar/deep/1\.png: image file"):
        opened(shards)[1]
    whole = (shards / "00001.tar").read_bytes()
    held = open_captioned(shards, clips=False)
    (shards / "00001.tar").write_bytes(whole[:1200])
    source = CaptionedImages(held, size=SHAPE[:2], channels=3)
    with pytest.raises(BrokenExampleError, match="the shard ends in it"):
        source[len(WORDS) - 1]
