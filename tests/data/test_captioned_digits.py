"""Digits with captions: what the words say is what the pixels do."""

from pathlib import Path

import numpy as np
import pytest

from skipdit_jax.data import digit_captions as said
from skipdit_jax.data.captioned_digits import DigitClips, DigitPictures
from skipdit_jax.data.clips import Window
from skipdit_jax.data.config import DataConfig
from skipdit_jax.data.open import open_data

FRAMES, SIDE, TOKENS, WIDTH = 8, 32, 3, 2
CAPTIONS = ["", *(sentence for sentence, _ in said.sayings((*said.CLIPS, *said.PICTURES)))]
TOLD = {kind: dict(said.sayings(kind)) for kind in (said.CLIPS, said.PICTURES)}
SHAPE = (SIDE, SIDE, 1)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Embeddings that say which caption they are of."""
    path = tmp_path_factory.mktemp("captions") / "captions.npz"
    numbers = np.arange(len(CAPTIONS), dtype=np.float32)
    text = np.broadcast_to(numbers[:, None, None], (len(CAPTIONS), TOKENS, WIDTH))
    arrays = {"t5/text": text, "t5/mask": np.ones((len(CAPTIONS), TOKENS), np.int32)}
    np.savez(path, prompts=np.array(CAPTIONS), **arrays)
    return str(path)


def caption(example):
    return CAPTIONS[int(example["text"][0, 0])]


def centres(frames):
    ink = (np.asarray(frames, np.float64)[..., 0] + 1) / 2
    at = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"), -1)
    return np.einsum("fij,ijk->fk", ink, at) / ink.sum((1, 2))[:, None]


def test_captions_read_as_they_should():
    told = dict(said.sayings(("a {slow} {digit} moving {to}", "{a} {at}")))
    assert told["a fast eight moving up and to the left"] == said.Said(8, way=4, pace=1)
    assert told["an eight at the top left"] == said.Said(8, place=0)
    assert said.WAYS[4] == said.PLACES[0] == (-1, -1)
    for way, (down, right) in enumerate(said.WAYS):
        for gap in ("{way}", "{to}", "{wards}"):
            words = said.caption_of(gap, said.Said(way=way))
            assert ("down" in words, "up" in words) == (down > 0, down < 0)
            assert ("right" in words, "left" in words) == (right > 0, right < 0)
    for place, (down, right) in enumerate(said.PLACES):
        for gap, (top, bottom) in (
            ("{spot}", ("top", "bottom")),
            ("{at}", ("top", "bottom")),
            ("{near}", ("upper", "lower")),
        ):
            words = said.caption_of(gap, said.Said(place=place))
            assert (top in words, bottom in words) == (down < 0, down > 0)
            assert ("left" in words, "right" in words) == (right < 0, right > 0)


@pytest.mark.parametrize("kind", ["CLIPS", "PICTURES"])
def test_no_sentence_is_twice_there_and_none_is_held_out_and_trained_on(kind):
    trained, held_out = (
        [sentence for sentence, _ in said.sayings(getattr(said, name))]
        for name in (kind, f"{kind}_HELD_OUT")
    )
    assert len(set(trained)) == len(trained)
    assert len(set(held_out)) == len(held_out)
    assert not set(trained) & set(held_out)


def test_clips_move_as_their_captions_say(table):
    meaning = TOLD[said.CLIPS]
    source, window, seen = DigitClips("test", table), Window(FRAMES), set()
    rng = np.random.default_rng(0)
    for index in range(0, len(source), 2):
        example = source.draw(index, window, rng)
        told = meaning[caption(example)]
        assert told.digit == source._labels[index]
        assert example["image"].shape == (FRAMES, *SHAPE)
        steps = np.diff(centres(example["image"]), axis=0)
        np.testing.assert_allclose(steps, steps[:1].repeat(FRAMES - 1, 0), atol=1e-3)
        ink = example["image"].astype(np.float64).sum((1, 2, 3))
        np.testing.assert_allclose(ink, ink[:1].repeat(FRAMES), rtol=1e-4)  # no wall cuts it
        speed = np.linalg.norm(steps[0])
        assert said.PACES[0][0] - 1e-3 < speed < said.PACES[1][1] + 1e-3
        if told.way is not None:
            unit = np.array(said.WAYS[told.way]) / np.linalg.norm(said.WAYS[told.way])
            np.testing.assert_allclose(steps[0] / speed, unit, atol=1e-3)
            seen.add(told.way)
        if told.pace is not None:
            slow, fast = said.PACES
            assert speed < slow[1] + 1e-3 if told.pace == 0 else speed > fast[0] - 1e-3
    assert seen == set(range(len(said.WAYS)))


def test_a_long_clip_goes_slower_rather_than_through_a_wall(table):
    source = DigitClips("test", table)
    clip = source.draw(0, Window(FRAMES, stride=4), np.random.default_rng(0))["image"]
    ink = clip.astype(np.float64).sum((1, 2, 3))
    np.testing.assert_allclose(ink, ink[:1].repeat(FRAMES), rtol=1e-4)


def test_pictures_stand_where_their_captions_say(table):
    meaning = TOLD[said.PICTURES]
    source, seen = DigitPictures("test", table), set()
    middle, apart, away = (SIDE - 1) / 2, 6.5, 3.5
    for index in range(0, len(source), 97):
        example = source[index]
        assert np.array_equal(example["image"], source[index]["image"])
        told = meaning[caption(example)]
        assert told.digit == source._labels[index % len(source._labels)]
        if told.place is not None:
            wanted = middle + apart * np.array(said.PLACES[told.place])
            assert np.abs(centres(example["image"][None])[0] - wanted).max() < away
            seen.add(told.place)
    assert seen == set(range(len(said.PLACES)))


@pytest.mark.parametrize("frames", [(), (FRAMES,)])
def test_batches_have_texts_and_what_stands_in_for_dropped_ones(table, frames):
    config = DataConfig(name="captioned_digits", path=table)
    batches = open_data(
        config,
        sample_shape=(*frames, *SHAPE),
        num_classes=2**31 - 1,
        batch_size=4,
        seed=0,
        texts={"text": (None, WIDTH)},
    )
    batch = next(batches)
    assert set(batch) == {"image", "text", "text_mask"}
    assert batch["image"].shape == (4, *frames, *SHAPE)
    assert batch["text"].shape == (4, TOKENS, WIDTH)
    assert np.array_equal(batches.constants["null_text"], np.zeros((TOKENS, WIDTH)))


def test_files_that_are_none_are_named(table, tmp_path):
    with pytest.raises(ValueError, match=r"^data\.path: .*no\.npz: .*, wanted embeddings of"):
        DigitClips("train", str(tmp_path / "no.npz"))
    (tmp_path / "cut.npz").write_bytes(Path(table).read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"^data\.path: .*cut\.npz: .*, wanted embeddings of"):
        DigitClips("train", str(tmp_path / "cut.npz"))
    np.savez(tmp_path / "few.npz", **{"prompts": ["", "a zero"], "t5/text": 0, "t5/mask": 0})
    with pytest.raises(ValueError, match=r"holds no 'a zero moving up', wanted all captions"):
        DigitClips("train", str(tmp_path / "few.npz"))
    with pytest.raises(ValueError, match=r"are \(32, 32, 1\), wanted \(16, 16, 1\)"):
        open_data(
            DataConfig(name="captioned_digits", path=table),
            sample_shape=(16, 16, 1),
            num_classes=2,
            batch_size=4,
            seed=0,
            texts={"text": (None, WIDTH)},
        )
