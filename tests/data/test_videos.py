import json

import av
import numpy as np
import pytest

from skipdit_jax.data.images import read_image, to_pixels
from tests.data.videos import (
    CLIP,
    FRAMES,
    SPAN,
    STRIDE,
    number_of,
    numbers,
    open_videos,
    take,
    write_frames,
    write_video,
)

LOSSLESS = {"qp": 10, "g": 12, "bf": 3}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two classes of two videos each, as files and as frames; not to be changed."""
    root = tmp_path_factory.mktemp("whole")
    write_video(root / "cat" / "b.mp4", **LOSSLESS)
    write_frames(root / "cat" / "a", pattern="{}.png")
    write_video(root / "dog" / "deep" / "c.mkv", **LOSSLESS, count=20)
    write_frames(root / "dog" / "d", count=SPAN, first=30)
    return root


def assert_equal(got, want):
    for one, other in zip(got, want, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def test_batches_are_clips_at_the_stride(whole):
    data = open_videos(whole)
    for batch in take(data, 3):
        assert batch.keys() == {"image", "label"}
        assert batch["image"].shape == (4, *CLIP)
        assert (batch["image"].dtype, batch["label"].dtype) == (np.float32, np.int32)
        for clip in batch["image"]:
            assert np.diff(numbers(clip)).tolist() == [STRIDE] * (FRAMES - 1)
    assert (data.num_examples, data.skipped) == (4, 0)


def test_videos_stand_in_the_order_of_their_names(whole):
    batch = next(open_videos(whole, shuffle=False))
    assert batch["label"].tolist() == [0, 0, 1, 1]
    assert numbers(batch["image"][2])[0] == 30
    clips = np.round((batch["image"] + 1) * 127.5).astype(np.uint8)
    want = [read_frame(whole / "cat" / "a" / f"{n}.png") for n in numbers(clips[0])]
    np.testing.assert_array_equal(clips[0], np.stack(want))


def read_frame(path):
    return read_image(path, name="", size=CLIP[1:3], channels=3)


def test_frames_of_files_are_cut_as_pictures_are(whole):
    clip = next(open_videos(whole, shuffle=False, shape=(FRAMES, 24, 40, 3)))["image"][1]
    with av.open(str(whole / "cat" / "b.mp4")) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    want = [to_pixels(frames[n], size=(24, 40), channels=3) for n in numbers(clip)]
    np.testing.assert_array_equal(np.round((clip + 1) * 127.5), np.stack(want))


def test_grey_models_get_grey_clips(whole):
    assert next(open_videos(whole, shape=(FRAMES, 8, 8, 1)))["image"].shape == (4, FRAMES, 8, 8, 1)


def test_every_start_that_fits_is_drawn_alike(tmp_path):
    write_frames(tmp_path / "cat" / "a", count=SPAN + 2)
    count = 150
    batch = next(open_videos(tmp_path, batch_size=count, classes=1))
    starts = np.bincount([number_of(clip[0]) for clip in batch["image"]])
    np.testing.assert_allclose(starts, count / 3, atol=4 * np.sqrt(count * 2 / 9))


@pytest.mark.parametrize("taken", [0, 3])
def test_position_goes_through_json(whole, taken):
    options = {"flip": True, "use_image_num": 2}
    data = open_videos(whole, **options)
    take(data, taken)
    state = json.loads(json.dumps(data.get_state()))
    fresh = open_videos(whole, threads=3, **options)
    fresh.set_state(state)
    assert_equal(take(fresh, 3), take(data, 3))


def test_two_processes_see_the_batches_of_one(whole):
    options = {"flip": True, "use_image_num": 2}
    whole_batches = take(open_videos(whole, batch_size=6, **options), 3)
    parts = [
        take(open_videos(whole, batch_size=3, process=(index, 2), **options), 3) for index in (0, 1)
    ]
    joined = [
        {key: np.concatenate([one[key], two[key]]) for key in one}
        for one, two in zip(*parts, strict=True)
    ]
    assert_equal(joined, whole_batches)


def test_clips_differ_by_epoch_and_seed(whole):
    one, two = take(open_videos(whole, shuffle=False), 2)
    other = next(open_videos(whole, shuffle=False, seed=1))
    assert not np.array_equal(one["image"], two["image"])
    assert not np.array_equal(one["image"], other["image"])


@pytest.mark.parametrize(
    "change", [{"frame_stride": 2}, {"use_image_num": 1}, {"shape": (3, *CLIP[1:])}]
)
def test_a_state_of_other_clips_is_refused(whole, change):
    state = open_videos(whole).get_state()
    named = {"shape": "num_frames"}.get(*change, *change)
    with pytest.raises(ValueError, match=f"{named} was .*, is now"):
        open_videos(whole, **change).set_state(state)


def test_workers_change_nothing(whole, tmp_path, parsed_flags):
    write_frames(tmp_path / "cat" / "short", count=3)
    write_video(tmp_path / "dog" / "long.mp4", **LOSSLESS)
    options = {"flip": True, "use_image_num": 2, "skip_broken": True}
    here, there = open_videos(tmp_path, **options), open_videos(tmp_path, workers=2, **options)
    assert_equal(take(there, 3), take(here, 3))
    assert there.broken == here.broken != {}
    there.close()


# Joint training.


def test_images_of_other_videos_stand_behind_the_clip(tree):
    """A fifth video, of one frame, is too short for a clip, but gives images."""
    write_frames(tree / "dog" / "e", count=1, first=47)
    count, images = 120, 3
    data = open_videos(tree, use_image_num=images, batch_size=count, skip_broken=True)
    batch = next(data)
    assert batch["image"].shape == (count, FRAMES + images, *CLIP[1:])
    assert batch["image_labels"].shape == (count, images)
    assert batch["image_labels"].dtype == np.int32
    seen = np.array([numbers(clip) for clip in batch["image"]])
    np.testing.assert_array_equal(np.diff(seen[:, :FRAMES]), STRIDE)
    assert set(batch["label"]) == {0}
    stills = seen[:, FRAMES:]
    np.testing.assert_array_equal(batch["image_labels"], stills == 47)
    of_b = stills[seen[:, 0] == 12]
    shares = np.bincount(np.where(of_b == 47, 4, of_b // 12).ravel(), minlength=5) / of_b.size
    assert shares[1] == 0
    np.testing.assert_allclose(np.delete(shares, 1), 1 / 4, atol=4 * np.sqrt(3 / 16 / of_b.size))
    assert set((stills[stills != 47] % 12).tolist()) == set(range(SPAN))


def test_clip_and_images_are_mirrored_by_draws_of_their_own(tree):
    options = {"use_image_num": 2, "batch_size": 50}
    plain = next(open_videos(tree, **options))
    flipped = next(open_videos(tree, flip=True, **options))
    same = np.array(
        [
            [np.array_equal(f, p) for f, p in zip(*pair, strict=True)]
            for pair in zip(flipped["image"], plain["image"], strict=True)
        ]
    )
    turned = flipped["image"][..., ::-1, :]
    straight = np.where(same[..., None, None, None], flipped["image"], turned)
    np.testing.assert_array_equal(straight, plain["image"])
    clip, images = same[:, :FRAMES], same[:, FRAMES:]
    assert (clip == clip[:, :1]).all()
    patterns = np.column_stack([clip[:, 0], images]) @ [1, 2, 4]
    assert set(patterns) == set(range(8))
    np.testing.assert_array_equal(plain["label"], flipped["label"])


def test_one_video_alone_gives_its_own_images(tmp_path):
    write_frames(tmp_path / "cat" / "a", count=SPAN)
    batch = next(open_videos(tmp_path, use_image_num=2, classes=1))
    assert batch["image"].shape == (4, FRAMES + 2, *CLIP[1:])
