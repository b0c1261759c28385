import numpy as np
import pytest

from skipdit_jax.data.clips import Window
from skipdit_jax.data.config import DataConfig
from skipdit_jax.data.digits import load_digits
from skipdit_jax.data.moving_digits import MovingDigitsSource, load_moving_digits
from skipdit_jax.data.moving_digits_builder import MovingDigitsConfig, prepare_moving_digits
from skipdit_jax.data.open import open_data

FRAMES, SIDE, ROOM = 20, 32, 16
SHAPE = (FRAMES, SIDE, SIDE, 1)
PIXELS = np.arange(SIDE)


def open_moving(*, shape=SHAPE, name="moving_digits", batch_size=8, seed=0, classes=10, **config):
    return open_data(
        DataConfig(name=name, **config),
        sample_shape=shape,
        num_classes=classes,
        batch_size=batch_size,
        seed=seed,
    )


@pytest.fixture(scope="module")
def one():
    return load_moving_digits("test", FRAMES)


@pytest.fixture(scope="module")
def two():
    return load_moving_digits("test", FRAMES, num_digits=2)


def centres(videos):
    """Centre of mass of the ink of each frame, [N,F,2]; linear interpolation moves it exactly."""
    ink = (videos[..., 0].astype(np.float64) + 1) / 2
    total = ink.sum((-1, -2))
    rows, columns = (ink.sum(-1) * PIXELS).sum(-1), (ink.sum(-2) * PIXELS).sum(-1)
    return np.stack([rows, columns], axis=-1) / total[..., None]


@pytest.mark.parametrize("name", ["one", "two"])
def test_videos_are_of_the_digits_in_their_order(name, request):
    videos, labels = request.getfixturevalue(name)
    assert videos.shape == (len(labels), *SHAPE)
    assert (videos.dtype, labels.dtype) == (np.float32, np.int32)
    assert videos.min() == -1
    assert 0.5 < videos.max() <= 1
    np.testing.assert_array_equal(labels, load_digits("test").labels)


def test_ink_is_that_of_the_digit_four_times_as_large(one):
    """Both interpolations keep the sum of ink but for the borders of the small picture."""
    ink = (one.videos.astype(np.float64) + 1).sum((-1, -2, -3)) / 2
    np.testing.assert_allclose(ink, ink[:, :1].repeat(FRAMES, 1), rtol=1e-5)
    images = load_digits("test").images
    whole = (images.astype(np.float64) + 1).sum((-1, -2, -3)) / 2
    np.testing.assert_allclose(ink[:, 0], 4 * whole, rtol=0.02)


def test_speed_is_constant_between_walls(one):
    """Between bounces the velocity stays; at a wall it changes its sign and nothing else."""
    steps = np.diff(centres(one.videos), axis=1)
    size = np.abs(steps)
    usual = np.median(size, axis=1, keepdims=True)
    even = np.isclose(size, usual, atol=1e-3)
    assert even.mean() > 0.8
    # A step with a bounce in it is shorter, and the next one goes back.
    before, after = np.sign(steps[:, :-2]), np.sign(steps[:, 2:])
    bounced = ~even[:, 1:-1] & even[:, :-2] & even[:, 2:]
    assert bounced.sum() > 500
    assert (size[:, 1:-1][bounced] < np.broadcast_to(usual, size.shape)[:, 1:-1][bounced]).all()
    assert (before == -after)[bounced & (usual[:, :] > 0.05)].all()
    speed = np.linalg.norm(usual[:, 0], axis=-1)
    assert 1 - 1e-3 < speed.min() < 1.1 < 1.9 < speed.max() < 2 + 1e-3


def test_digits_stay_whole_and_go_everywhere(one):
    path = centres(one.videos)
    assert path.min() > 4
    assert path.max() < SIDE - 5
    assert np.histogram(path, bins=4, range=(8, 24))[0].min() > 1000
    direction = np.sign(np.diff(path[:, :2], axis=1)[:, 0]) @ [1, 2]
    assert np.bincount(((direction + 3) / 2).astype(int)).min() > len(path) / 8


def test_a_pair_is_of_one_class_and_two_hands(one, two):
    """Where they do not meet, a pair has the ink of two digits of the class."""
    single = (one.videos[:, 0].astype(np.float64) + 1).sum((-1, -2, -3)) / 2
    pair = ((two.videos.astype(np.float64) + 1).sum((-1, -2, -3)) / 2).max(1)
    for label in range(10):
        alone = single[one.labels == label]
        ratio = (pair[two.labels == label] - alone) / alone.mean()
        assert 0.7 < np.median(ratio) < 1.1
    assert (pair > single).mean() > 0.95


def test_the_fixed_video_is_a_function_of_seed_and_index(one):
    source = MovingDigitsSource("test", seed=0)
    for index in (200, 3, 200):
        drawn = source.draw(index, Window(5, 2), np.random.default_rng())
        np.testing.assert_array_equal(drawn["image"], one.videos[index, :10:2])
    other = load_moving_digits("test", 1, seed=1).videos
    assert not (other == one.videos[:, :1]).all((-1, -2, -3)).any()


@pytest.mark.parametrize("num_digits", [1, 2])
def test_training_never_repeats(num_digits):
    source = MovingDigitsSource("train", num_digits=num_digits)
    rng = np.random.default_rng(0)
    drawn = [source.draw(7, Window(2), rng) for _ in range(50)]
    assert len({one["image"].tobytes() for one in drawn}) == 50
    assert {int(one["label"]) for one in drawn} == {int(load_digits("train").labels[7])}


def test_training_motion_comes_from_seed_and_place():
    data, again, other = open_moving(), open_moving(threads=3), open_moving(seed=1)
    batches = [next(data) for _ in range(4)]
    again.set_state(again.get_state() | {"next_index": 3})
    np.testing.assert_array_equal(next(again)["image"], batches[3]["image"])
    assert not np.array_equal(next(other)["image"], batches[0]["image"])


def test_the_test_split_is_fixed(one):
    for seed in (0, 1):
        data = open_moving(split="test", shuffle=False, seed=seed)
        for _ in range(2):
            batch = next(data)
        np.testing.assert_array_equal(batch["image"], one.videos[8:16])
        np.testing.assert_array_equal(batch["label"], one.labels[8:16])


def test_images_of_other_digits_stand_behind():
    batch = next(open_moving(use_image_num=3, num_frames=FRAMES, batch_size=50))
    assert batch["image"].shape == (50, FRAMES + 3, *SHAPE[1:])
    assert batch["image_labels"].shape == (50, 3)
    assert (batch["image_labels"] != batch["label"][:, None]).any(0).all()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"split": "val"}, r"data\.split: found 'val'"),
        ({"num_digits": 3}, r"data\.num_digits: found 3, wanted 1 or 2"),
        ({"shape": (8, 28, 28, 1)}, r"are \(32, 32, 1\), wanted \(28, 28, 1\)"),
        ({"shape": (32, 32, 1)}, r"gives clips, wanted images \(32, 32, 1\)"),
        ({"num_frames": 16}, r"data\.num_frames: found 16, wanted the model's 20"),
        ({"classes": 9}, r"label 9, wanted 0\.\.8 \(num_classes\)"),
    ],
)
def test_what_does_not_fit_is_named(options, named):
    with pytest.raises(ValueError, match=f"^[^\n]*{named}[^\n]*$"):
        open_moving(**options)


def test_a_state_of_other_digits_is_refused():
    state = open_moving().get_state()
    with pytest.raises(ValueError, match="num_digits was 1, is now 2"):
        open_moving(num_digits=2).set_state(state)


# The set of TFDS.

PREPARED = MovingDigitsConfig(name="short", num_digits=2, num_frames=5, seed=3)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("tfds")
    prepare_moving_digits(root, PREPARED)
    return str(root)


def prepared(path, **options):
    return open_moving(name="skipdit_moving_digits/short", path=path, split="test", **options)


def test_the_prepared_set_is_the_fixed_one(data_dir):
    want = load_moving_digits("test", 5, num_digits=2, seed=3)
    data = prepared(data_dir, shape=(5, *SHAPE[1:]), shuffle=False, batch_size=len(want.labels))
    batch = next(data)
    np.testing.assert_array_equal(batch["image"], want.videos)
    np.testing.assert_array_equal(batch["label"], want.labels)


def test_shorter_clips_are_cut_from_the_prepared_set(data_dir):
    want = load_moving_digits("test", 5, num_digits=2, seed=3).videos
    shape = (2, *SHAPE[1:])
    data = prepared(data_dir, shape=shape, shuffle=False, batch_size=50, frame_stride=3)
    starts = []
    for clip, video in zip(next(data)["image"], want, strict=False):
        starts += [n for n in (0, 1) if np.array_equal(clip, video[n::3])]
    assert len(starts) == 50
    assert set(starts) == {0, 1}


def test_images_are_not_to_be_had_from_it(data_dir):
    with pytest.raises(ValueError, match=r"features \['label', 'video'\], wanted image, label"):
        prepared(data_dir, shape=SHAPE[1:])
    with pytest.raises(ValueError, match=r"5 frames, wanted 20 at stride 1 \(20\)"):
        next(prepared(data_dir))
