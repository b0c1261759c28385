import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from skipdit_jax.data.config import DataConfig
from skipdit_jax.data.digits_builder import prepare_digits
from skipdit_jax.data.open import open_data

SIDE, COUNT = 20, 6


class Pictures(tfds.core.GeneratorBasedBuilder):
    """A set of encoded pictures, as most sets of TFDS are; two of them are damaged."""

    VERSION = tfds.core.Version("1.0.0")
    name = "pictures"

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(num_classes=3),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0), "damaged": self._generate_examples(2)}

    def _generate_examples(self, damaged):
        for index in range(COUNT):
            stored = io.BytesIO()
            pixels = np.full((SIDE, 2 * SIDE, 3), 40 * index, np.uint8)
            Image.fromarray(pixels).save(stored, "PNG")
            data = stored.getvalue()[: 60 if index < damaged else None]
            yield index, {"image": io.BytesIO(data), "label": index % 3}


def encoded(level):
    stored = io.BytesIO()
    Image.fromarray(np.full((SIDE, 2 * SIDE, 3), level, np.uint8)).save(stored, "PNG")
    return stored.getvalue()


class Clips(tfds.core.GeneratorBasedBuilder):
    """Videos of encoded frames, as tfds.features.Video stores them; one frame is damaged."""

    VERSION = tfds.core.Version("1.0.0")
    name = "clips"

    def _info(self):
        frames = tfds.features.Sequence(tfds.features.Image(shape=(None, None, 3)))
        features = {"video": frames, "label": tfds.features.ClassLabel(num_classes=3)}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(None), "damaged": self._generate_examples(1)}

    def _generate_examples(self, damaged):
        for index in range(3):
            frames = [encoded(60 * index + 10 * number) for number in range(3 + index)]
            if index == damaged:
                frames[1] = frames[1][:60]
            yield index, {"video": [io.BytesIO(frame) for frame in frames], "label": index}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("tfds")
    prepare_digits(root)
    for kind in (Pictures, Clips):
        kind(data_dir=str(root), file_format="array_record").download_and_prepare()
    return str(root)


def batches(path, name, *, shape, classes=10, batch_size=64, **config):
    return open_data(
        DataConfig(name=name, path=path, **config),
        sample_shape=shape,
        num_classes=classes,
        batch_size=batch_size,
        seed=3,
    )


def test_prepared_digits_are_those_in_memory_in_the_same_order(data_dir):
    prepared = batches(data_dir, "skipdit_digits", shape=(8, 8, 1), flip=True)
    in_memory = batches("", "digits", shape=(8, 8, 1), flip=True)
    for _ in range(30):
        got, want = next(prepared), next(in_memory)
        np.testing.assert_array_equal(got["image"], want["image"])
        np.testing.assert_array_equal(got["label"], want["label"])
        assert (got["image"].dtype, got["label"].dtype) == (np.float32, np.int32)


def test_encoded_pictures_are_cut_to_the_model(data_dir):
    data = batches(data_dir, "pictures", shape=(8, 8, 3), batch_size=COUNT, shuffle=False)
    batch = next(data)
    levels = np.round((batch["image"] + 1) * 127.5)
    want = np.broadcast_to(40 * np.arange(COUNT)[:, None, None, None], (COUNT, 8, 8, 3))
    np.testing.assert_array_equal(levels, want)
    assert batch["label"].tolist() == [0, 1, 2, 0, 1, 2]


def test_damaged_pictures_are_named_or_skipped(data_dir):
    options = {"shape": (8, 8, 3), "batch_size": COUNT, "split": "damaged", "shuffle": False}
    with pytest.raises(ValueError, match="truncated") as caught:
        next(batches(data_dir, "pictures", **options))
    assert str(caught.value) == "pictures/damaged[0]: image file is truncated"
    data = batches(data_dir, "pictures", skip_broken=True, **options)
    assert next(data)["label"].tolist() == [2, 2, 2, 0, 1, 2]
    assert set(data.broken) == {"pictures/damaged[0]", "pictures/damaged[1]"}


def test_frames_of_encoded_videos_are_cut_to_the_model(data_dir):
    options = {"shape": (3, 8, 12, 3), "batch_size": 3, "shuffle": False}
    batch = next(batches(data_dir, "clips", use_image_num=1, **options))
    levels = np.round((batch["image"] + 1) * 127.5)
    numbers = levels[..., 0, 0, 0] // 10
    frames = levels[:, :, :1, :1, :1]
    np.testing.assert_array_equal(levels, np.broadcast_to(frames, (3, 4, 8, 12, 3)))
    np.testing.assert_array_equal(np.diff(numbers[:, :3]), 1)
    np.testing.assert_array_equal(numbers[:, 0] // 6, [0, 1, 2])
    np.testing.assert_array_equal(numbers[:, 3] // 6, batch["image_labels"][:, 0])
    assert batch["label"].tolist() == [0, 1, 2]


def test_damaged_frames_and_short_videos_are_named_or_skipped(data_dir):
    options = {"shape": (4, 8, 8, 3), "batch_size": 3, "split": "damaged", "shuffle": False}
    with pytest.raises(ValueError, match=r"^clips/damaged\[0\]: 3 frames, wanted 4 at stride 1 "):
        next(batches(data_dir, "clips", **options))
    data = batches(data_dir, "clips", skip_broken=True, **options)
    assert next(data)["label"].tolist() == [2, 2, 2]
    assert data.broken["clips/damaged[1] frame 1"] == "image file is truncated"


def test_features_of_tensorflow_are_named(tmp_path, data_dir):
    """Without TensorFlow installed, as here, TFDS cannot so much as make a tfds.features.Video."""
    shutil.copytree(Path(data_dir) / "clips", tmp_path / "clips")
    path = tmp_path / "clips" / "1.0.0" / "features.json"
    stored = json.loads(path.read_text())
    stored["featuresDict"]["features"]["video"] = {
        "pythonClassName": "tensorflow_datasets.core.features.video_feature.Video",
        "video": {"dtype": "uint8", "shape": {"dimensions": ["-1", "8", "8", "3"]}},
    }
    path.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=r"features that need tensorflow .*not installed"):
        batches(str(tmp_path), "clips", shape=(3, 8, 8, 3))


def test_parts_of_a_split_are_sets(data_dir):
    data = batches(data_dir, "pictures", shape=(8, 8, 3), split="train[:50%]", batch_size=2)
    assert data.num_examples == COUNT // 2


def test_another_set_of_the_same_size_is_not_continued(data_dir, tmp_path):
    options = {"shape": (8, 8, 3), "batch_size": 2}
    state = batches(data_dir, "pictures", **options).get_state()
    moved = shutil.copytree(Path(data_dir) / "pictures", tmp_path / "pictures")
    batches(str(tmp_path), "pictures", **options).set_state(state)
    (shard,) = moved.rglob("pictures-train.array_record*")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2 + 1] ^= 1  # of the same length: another number
    shard.write_bytes(data)
    with pytest.raises(ValueError, match=r"data state: fingerprint was '\w+', is now '\w+'"):
        batches(str(tmp_path), "pictures", **options).set_state(state)
    half = {**options, "split": "train[:50%]"}
    other = {**options, "split": "train[50%:]"}
    found = {
        batches(data_dir, "pictures", **one).get_state()["fingerprint"]
        for one in (half, other, options)
    }
    assert len(found) == 3


@pytest.mark.parametrize(
    ("name", "config", "named"),
    [
        ("nowhere", {}, "no prepared set 'nowhere' in"),
        ("skipdit_digits:9.0.0", {}, r"no prepared set 'skipdit_digits:9\.0\.0'"),
        ("skipdit_digits", {"split": "val"}, r"data\.split: .*wanted one of \['test', 'train'\]"),
        ("skipdit_digits", {"classes": 9}, r"10 classes, wanted labels 0\.\.8 \(num_classes\)"),
    ],
)
def test_what_does_not_fit_is_named(data_dir, name, config, named):
    with pytest.raises(ValueError, match=f"^[^\n]*{named}[^\n]*$"):
        batches(data_dir, name, shape=(8, 8, 1), **config)


def test_other_file_formats_are_named(data_dir, tmp_path):
    Pictures(data_dir=str(tmp_path), file_format="parquet").download_and_prepare()
    with pytest.raises(ValueError, match="prepared as parquet, wanted file_format='array_record'"):
        batches(str(tmp_path), "pictures", shape=(8, 8, 3))


READ = """
import sys
from skipdit_jax.data.config import DataConfig
from skipdit_jax.data.open import open_data

data = open_data(
    DataConfig(name="skipdit_digits", path=sys.argv[1]),
    sample_shape=(8, 8, 1), num_classes=10, batch_size=8, seed=0,
)
assert next(data)["image"].shape == (8, 8, 8, 1)
assert "tensorflow_datasets" in sys.modules and "tensorflow" not in sys.modules
"""


def test_reading_imports_no_tensorflow(data_dir):
    done = subprocess.run(
        [sys.executable, "-c", READ, data_dir], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
