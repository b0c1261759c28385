import json
import logging

import numpy as np
import pytest
from absl import flags

from skipdit_jax.data.config import DataConfig
from skipdit_jax.data.digits import load_digits
from skipdit_jax.data.latent_files import write_latents
from skipdit_jax.data.open import open_data
from skipdit_jax.data.transforms import ScalePixels
from tests.data.pictures import cut_short, write_tree

SHAPE, CLASSES, COUNT = (16, 16, 3), 2, 10


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path / "tree")


def folder(path, *, batch_size=4, seed=0, shape=SHAPE, classes=CLASSES, process=(0, 1), **config):
    return open_data(
        DataConfig(name="folder", path=str(path), **config),
        sample_shape=shape,
        num_classes=classes,
        batch_size=batch_size,
        seed=seed,
        process_index=process[0],
        process_count=process[1],
    )


def take(batches, count):
    return [next(batches) for _ in range(count)]


def assert_equal(got, want):
    for one, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])
        np.testing.assert_array_equal(one["label"], other["label"])


def keys(batches):
    """Pictures by their bytes, as the test knows no index."""
    return [image.tobytes() for batch in batches for image in batch["image"]]


def test_batches_fit_the_model(tree):
    data = folder(tree)
    for batch in take(data, 5):
        assert batch["image"].shape == (4, *SHAPE)
        assert (batch["image"].dtype, batch["label"].dtype) == (np.float32, np.int32)
        assert -1 <= batch["image"].min() < -0.5 < 0.5 < batch["image"].max() <= 1
    assert (data.num_examples, data.skipped) == (COUNT, 0)


def test_epochs_are_whole_and_differ(tree):
    seen = keys(take(folder(tree, batch_size=5), 4))
    assert len(set(seen[:COUNT])) == COUNT
    assert set(seen[:COUNT]) == set(seen[COUNT:])
    assert seen[:COUNT] != seen[COUNT:]


def test_labels_follow_the_names_of_folders(tmp_path):
    """Each class has pictures of one level of its own."""
    shape = (16, 16, 3)
    for level, name in enumerate(["b", "a", "c"]):
        write_tree(tmp_path, classes=(name,), shape=shape, seed=level)
    data = folder(tmp_path, classes=3, batch_size=15, shuffle=False)
    batch = next(data)
    want = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    first_b = batch["image"][batch["label"] == 1][0]
    np.testing.assert_array_equal(np.round((first_b + 1) * 127.5), want)
    assert batch["label"].tolist() == [0] * 5 + [1] * 5 + [2] * 5


@pytest.mark.parametrize("taken", [0, 1, 6])
def test_position_goes_through_json_with_flips(tree, taken):
    data = folder(tree, flip=True)
    take(data, taken)
    state = json.loads(json.dumps(data.get_state()))
    fresh = folder(tree, flip=True, threads=3)
    fresh.set_state(state)
    assert_equal(take(fresh, 5), take(data, 5))


def test_two_processes_see_the_batches_of_one(tree):
    whole = take(folder(tree, flip=True, batch_size=8), 6)
    parts = [take(folder(tree, flip=True, process=(index, 2)), 6) for index in (0, 1)]
    joined = [
        {key: np.concatenate([one[key], two[key]]) for key in one}
        for one, two in zip(*parts, strict=True)
    ]
    assert_equal(joined, whole)


def test_half_of_the_pictures_are_mirrored_anew_in_each_epoch(tree):
    count = 400
    plain = {image.tobytes() for batch in take(folder(tree), 5) for image in batch["image"]}
    images = np.concatenate([batch["image"] for batch in take(folder(tree, flip=True), count // 4)])
    straight = np.array([image.tobytes() in plain for image in images])
    mirrored = np.array([image[:, ::-1].tobytes() in plain for image in images])
    np.testing.assert_array_equal(straight, ~mirrored)
    spread = 0.5 / np.sqrt(count)
    np.testing.assert_allclose(straight.mean(), 0.5, atol=4 * spread)
    assert len({row.tobytes() for row in straight.reshape(-1, COUNT)}) > 1


def test_a_broken_picture_stops_with_its_name(tree):
    path = tree / "dog" / "3.png"
    cut_short(path)
    with pytest.raises(ValueError, match="truncated") as caught:
        take(folder(tree), 3)
    assert str(caught.value) == f"{path}: image file is truncated"


def test_broken_pictures_are_skipped_counted_and_named_once(tree, caplog):
    sound = take(folder(tree), 8)
    paths = [tree / "cat" / "4.png", tree / "dog" / "0.png"]
    stands_in = next(folder(tree, batch_size=COUNT, shuffle=False))["image"][6].tobytes()
    lost = {
        image.tobytes()
        for image in next(folder(tree, batch_size=COUNT, shuffle=False))["image"][4:6]
    }
    for path in paths:
        cut_short(path)
    with caplog.at_level(logging.WARNING):
        data = folder(tree, skip_broken=True)
        got = take(data, 8)
    want = [stands_in if key in lost else key for key in keys(sound)]
    assert keys(got) == want
    assert data.skipped == 2
    assert set(data.broken) == {str(path) for path in paths}
    assert all("truncated" in reason for reason in data.broken.values())
    assert len([r for r in caplog.records if "skipped" in r.getMessage()]) == 2


def test_nothing_but_broken_pictures_stops(tree):
    for path in tree.rglob("*.png"):
        cut_short(path)
    with pytest.raises(ValueError, match="all 10 examples are broken"):
        next(folder(tree, skip_broken=True))


def test_bad_trees_are_named(tree, tmp_path):
    with pytest.raises(ValueError, match=r"data\.path: no folder"):
        folder(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"2 class folders, wanted labels 0\.\.0 \(num_classes\)"):
        folder(tree, classes=1)
    (tree / "empty").mkdir()
    (tree / "empty" / "notes.txt").write_text("no picture")
    with pytest.raises(ValueError, match=r"class folder .*/empty has no images"):
        folder(tree, classes=3)
    (tmp_path / "bare").mkdir()
    with pytest.raises(ValueError, match="has no class folders"):
        folder(tmp_path / "bare")


def test_the_model_must_fit(tree):
    with pytest.raises(ValueError, match=r"data\.image_size: found 32, wanted the model's 16x16"):
        folder(tree, image_size=32)
    with pytest.raises(ValueError, match=r"data\.image_size: found 16, wanted the model's 8x16"):
        folder(tree, shape=(8, 16, 3), image_size=16)
    with pytest.raises(ValueError, match="wanted the model's 4; latents are"):
        folder(tree, shape=(8, 8, 4))
    with pytest.raises(ValueError, match=r"\(8, 8, 1\), wanted \(16, 16, 1\)"):
        next(
            open_data(
                DataConfig(name="digits"),
                sample_shape=(16, 16, 1),
                num_classes=10,
                batch_size=1,
                seed=0,
            )
        )


def test_pixels_of_unknown_range_are_refused():
    with pytest.raises(ValueError, match="images are int64, wanted uint8 or float"):
        ScalePixels().map({"image": np.zeros((1, 1, 1), np.int64)})
    ends = ScalePixels().map({"image": np.array([[[0]], [[255]]], np.uint8)})["image"]
    assert ends.ravel().tolist() == [-1, 1]


def test_oblong_models_get_oblong_pictures(tree):
    assert next(folder(tree, shape=(8, 16, 3)))["image"].shape == (4, 8, 16, 3)


def test_grey_models_get_grey_pictures(tree):
    assert next(folder(tree, shape=(8, 8, 1)))["image"].shape == (4, 8, 8, 1)


def test_digits_are_the_set_itself():
    digits = load_digits("test")
    data = open_data(
        DataConfig(name="digits", split="test", shuffle=False),
        sample_shape=(8, 8, 1),
        num_classes=10,
        batch_size=len(digits.labels),
        seed=0,
    )
    batch = next(data)
    np.testing.assert_array_equal(batch["image"], digits.images)
    np.testing.assert_array_equal(batch["label"], digits.labels)


def test_a_state_of_other_pictures_is_refused(tree):
    state = folder(tree).get_state()
    with pytest.raises(ValueError, match="flip was False, is now True"):
        folder(tree, flip=True).set_state(state)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"name": ""}, r"data\.name: found ''"),
        ({"name": "folder"}, r"data\.path: found ''"),
        ({"name": "digits", "workers": -1}, r"data\.workers: found -1"),
        ({"name": "digits", "threads": 0}, r"data\.threads: found 0"),
        ({"name": "digits", "ahead": 0}, r"data\.ahead: found 0"),
        ({"name": "digits", "image_size": 0}, r"data\.image_size: found 0"),
        ({"name": "digits", "latent_scale": 0}, r"data\.latent_scale: found 0"),
        ({"name": "videos"}, r"data\.path: found ''"),
        ({"name": "digits", "num_frames": 0}, r"data\.num_frames: found 0"),
        ({"name": "digits", "frame_stride": 0}, r"data\.frame_stride: found 0"),
        ({"name": "digits", "use_image_num": -1}, r"data\.use_image_num: found -1"),
        ({"name": "latents", "path": "x", "flip": True}, r"data\.flip: found True"),
        ({"name": "latents", "path": "x", "image_size": 256}, r"data\.image_size: found 256"),
    ],
)
def test_bad_fields_are_named(fields, named):
    with pytest.raises(ValueError, match=named):
        DataConfig(**fields)


def test_workers_change_nothing_and_may_change(tree, parsed_flags):
    cut_short(tree / "cat" / "4.png")
    here = folder(tree, flip=True, skip_broken=True)
    there = folder(tree, flip=True, skip_broken=True, workers=2)
    assert_equal(take(there, 5), take(here, 5))
    assert there.broken == here.broken != {}
    assert there.get_state() == here.get_state()
    state = there.get_state()
    there.close()
    fresh = folder(tree, flip=True, skip_broken=True, workers=1)
    fresh.set_state(state)
    assert_equal(take(fresh, 3), take(here, 3))
    fresh.close()


def test_workers_read_latents_and_name_what_is_wrong(tmp_path, parsed_flags):
    example = {"sample": np.zeros((4, 4, 2), np.float32), "label": 1}
    write_latents(tmp_path / "set", [example] * 3)
    path = tmp_path / "set" / "latents.json"
    path.write_text(path.read_text().replace("float32", "float16"))
    data = open_data(
        DataConfig(name="latents", path=str(tmp_path / "set"), workers=1),
        sample_shape=(4, 4, 2),
        num_classes=2,
        batch_size=2,
        seed=0,
    )
    with pytest.raises(ValueError, match="132 bytes, wanted 68") as caught:
        next(data)
    assert "\n" not in str(caught.value)
    data.close()


def test_workers_ask_for_parsed_flags(tree):
    was_parsed = flags.FLAGS.is_parsed()
    flags.FLAGS.unparse_flags()
    try:
        with pytest.raises(ValueError, match=r"data\.workers: .*parsed absl flags"):
            next(folder(tree, workers=1))
    finally:
        if was_parsed:
            flags.FLAGS.mark_as_parsed()
