import json

import numpy as np
import pytest

from skipdit_jax.data.config import DataConfig
from skipdit_jax.data.latent_files import FORMATS, write_latents
from skipdit_jax.data.latents import find_damage
from skipdit_jax.data.open import open_data
from skipdit_jax.data.sources import ANY_CLASS

SHAPE, COUNT, CLASSES = (4, 4, 2), 10, 3


def moments(count=COUNT, dtype=np.float16, logvar=None):
    rng = np.random.default_rng(0)
    for index in range(count):
        width = rng.normal(size=SHAPE) if logvar is None else np.full(SHAPE, logvar)
        yield {
            "mean": rng.normal(size=SHAPE).astype(dtype),
            "logvar": width.astype(dtype),
            "label": index % CLASSES,
        }


def samples(count=COUNT, dtype=np.float32):
    for one in moments(count, dtype):
        yield {"sample": one["mean"], "label": one["label"]}


def batches(path, *, batch_size=4, classes=CLASSES, shape=SHAPE, seed=0, **config):
    return open_data(
        DataConfig(name="latents", path=str(path), **config),
        sample_shape=shape,
        num_classes=classes,
        batch_size=batch_size,
        seed=seed,
    )


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_samples_come_back_scaled(tmp_path, format, dtype):
    write_latents(tmp_path / "set", samples(dtype=dtype), format=format, shard_size=4)
    data = batches(tmp_path / "set", batch_size=COUNT, shuffle=False, latent_scale=0.5)
    batch = next(data)
    want = np.stack([one["sample"] for one in samples(dtype=dtype)]).astype(np.float32)
    np.testing.assert_array_equal(batch["image"], want / 2)
    assert batch["label"].tolist() == [index % CLASSES for index in range(COUNT)]
    assert (batch["image"].dtype, batch["label"].dtype) == (np.float32, np.int32)
    assert data.num_examples == COUNT


def test_formats_give_the_same_draws(tmp_path):
    drawn = []
    for format, size in (("npz", 3), ("array_record", 7)):
        write_latents(tmp_path / format, moments(), format=format, shard_size=size)
        data = batches(tmp_path / format)
        drawn.append([next(data) for _ in range(6)])
    for one, other in zip(*drawn, strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])
        np.testing.assert_array_equal(one["label"], other["label"])


def test_draws_have_the_stored_moments(tmp_path):
    logvar, count = np.log(4.0), 4000
    write_latents(tmp_path / "set", moments(1, np.float32, logvar))
    image = next(batches(tmp_path / "set", batch_size=count, latent_scale=1))["image"]
    mean = next(moments(1, np.float32, logvar))["mean"]
    error = 2 / np.sqrt(count)
    np.testing.assert_allclose(image.mean(0), mean, atol=5 * error)
    np.testing.assert_allclose(image.std(0), 2, atol=5 * error)
    flat = image.reshape(count, -1)
    correlation = np.corrcoef(flat.T) - np.eye(flat.shape[1])
    np.testing.assert_allclose(correlation, 0, atol=6 / np.sqrt(count))


def test_certain_moments_are_the_mean(tmp_path):
    write_latents(tmp_path / "set", moments(dtype=np.float32, logvar=-80.0))
    image = next(batches(tmp_path / "set", batch_size=COUNT, shuffle=False))["image"]
    want = np.stack([one["mean"] for one in moments(dtype=np.float32, logvar=-80.0)])
    np.testing.assert_allclose(image, 0.18215 * want, rtol=1e-6)


def test_shards_of_plain_numpy_are_read(tmp_path):
    """Without a manifest, with numpy's own int64 labels, and in Fortran order."""
    rng = np.random.default_rng(0)
    want = rng.normal(size=(6, *SHAPE)).astype(np.float32)
    for shard in range(2):
        part = np.asfortranarray(want[3 * shard : 3 * shard + 3])
        np.savez(tmp_path / f"{shard}.npz", sample=part, label=np.arange(3))
    batch = next(batches(tmp_path, batch_size=6, shuffle=False, latent_scale=1))
    np.testing.assert_array_equal(batch["image"], want)
    assert batch["label"].tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(
    ("save", "arrays", "named"),
    [
        (np.savez_compressed, {"sample": np.zeros((2, *SHAPE)), "label": [0, 1]}, "compressed"),
        (np.savez, {"sample": np.zeros((2, *SHAPE)), "label": [0, 3]}, r"label 3, wanted 0\.\.2"),
        (np.savez, {"sample": np.zeros((2, *SHAPE)), "label": [0, -1]}, "label -1"),
        (np.savez, {"sample": np.zeros((2, *SHAPE)), "label": [0]}, "wanted one length"),
        (np.savez, {"mean": np.zeros((2, *SHAPE)), "label": [0, 1]}, "wanted label and one of"),
    ],
)
def test_bad_npz_shards_are_named(tmp_path, save, arrays, named):
    save(tmp_path / "one.npz", **arrays)
    with pytest.raises(ValueError, match=f"one.npz: [^\n]*{named}"):
        batches(tmp_path)


def test_a_damaged_shard_is_named(tmp_path):
    (tmp_path / "one.npz").write_bytes(b"PK not really")
    with pytest.raises(ValueError, match=r"one\.npz: File is not a zip file"):
        batches(tmp_path)


@pytest.mark.parametrize("format", FORMATS)
def test_labels_and_shapes_must_fit_the_model(tmp_path, format):
    write_latents(tmp_path / "set", moments(), format=format)
    with pytest.raises(ValueError, match=r"label 2, wanted 0\.\.1 \(num_classes\)"):
        batches(tmp_path / "set", classes=2)
    with pytest.raises(ValueError, match=r"is \(4, 4, 2\), wanted \(8, 8, 2\)"):
        next(batches(tmp_path / "set", shape=(8, 8, 2)))


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ValueError, match="no folder"):
        batches(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"no .*latents.json"):
        batches(tmp_path)
    manifest = write_latents(tmp_path / "set", moments(), shard_size=5)
    first, second = ((tmp_path / "set" / name) for name in manifest.shards)
    second.write_bytes(first.read_bytes())
    stored = json.loads((tmp_path / "set" / "latents.json").read_text())
    stored["shards"][second.name] = 6
    (tmp_path / "set" / "latents.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=r"hold 10 examples, wanted 11"):
        batches(tmp_path / "set")
    second.unlink()
    with pytest.raises(ValueError, match=r"00001\.array_record of 1 missing"):
        batches(tmp_path / "set")
    (tmp_path / "set" / "latents.json").write_text('{"format": "npz"}')
    with pytest.raises(ValueError, match="not a manifest"):
        batches(tmp_path / "set")


def test_records_of_another_length_are_broken(tmp_path):
    write_latents(tmp_path / "set", samples())
    path = tmp_path / "set" / "latents.json"
    path.write_text(path.read_text().replace("float32", "float16"))
    with pytest.raises(ValueError, match=r"record [0-9]: 132 bytes, wanted 68"):
        next(batches(tmp_path / "set"))


@pytest.mark.parametrize(
    ("examples", "named"),
    [
        ([], "no examples"),
        ([{"mean": np.zeros(SHAPE, np.float32), "label": 0}], "wanted one of"),
        ([{"sample": np.zeros(SHAPE), "label": 0}], "is float64"),
        ([*samples(2), *moments(1)], "example 2 has"),
        ([{"sample": np.zeros(SHAPE, np.float32), "label": -1}], "label -1"),
    ],
)
def test_bad_examples_write_nothing(tmp_path, examples, named):
    with pytest.raises(ValueError, match=named):
        write_latents(tmp_path / "set", examples, shard_size=1)
    assert not list(tmp_path.iterdir())


def test_written_sets_are_not_overwritten(tmp_path):
    write_latents(tmp_path / "set", samples(2))
    with pytest.raises(ValueError, match="wanted a new or empty folder"):
        write_latents(tmp_path / "set", samples(3))
    with pytest.raises(ValueError, match="format: found 'zip'"):
        write_latents(tmp_path / "other", samples(3), format="zip")


def test_marks_of_other_systems_do_no_harm(tmp_path):
    """A manifest saved by Notepad, and what macOS leaves beside shards without one."""
    write_latents(tmp_path / "set", samples())
    path = tmp_path / "set" / "latents.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert batches(tmp_path / "set").num_examples == COUNT
    write_latents(tmp_path / "bare", samples(), format="npz")
    (tmp_path / "bare" / "latents.json").unlink()
    (tmp_path / "bare" / "._latents-00000.npz").write_bytes(b"\0\5\x16\7")
    assert batches(tmp_path / "bare").num_examples == COUNT


TEXTS = {"text": (5, 6), "text_t5": (3, 4)}
WANTED = {"text": (None, 6), "text_t5": (3, 4)}


def texts_of(index):
    rng = np.random.default_rng(index)
    made = {}
    for name, shape in TEXTS.items():
        made[name] = rng.normal(size=shape).astype(np.float16)
        made[f"{name}_mask"] = rng.integers(0, 2, shape[0])
    return made


def captioned(count=COUNT, shape=SHAPE):
    for index in range(count):
        yield {"sample": np.full(shape, index, np.float16), **texts_of(index)}


def opened(path, shape=SHAPE, wanted=WANTED, **changes):
    config = DataConfig(name="latents", path=str(path), **{"latent_scale": 1, **changes})
    options = {"num_classes": ANY_CLASS, "batch_size": COUNT, "seed": 0, "texts": wanted}
    return open_data(config, sample_shape=shape, **options)


@pytest.mark.parametrize("format", FORMATS)
def test_texts_come_back_in_place_of_labels(tmp_path, format):
    options = {"format": format, "shard_size": 4, "null_text": texts_of(99)}
    write_latents(tmp_path / "set", captioned(), **options)
    assert find_damage(tmp_path / "set") == []
    data = opened(tmp_path / "set")
    batch = next(data)
    assert batch.keys() == {"image", *texts_of(0)}
    for row, image in enumerate(batch["image"]):
        for key, value in texts_of(int(image[0, 0, 0])).items():
            assert batch[key].dtype == np.float32
            np.testing.assert_array_equal(batch[key][row], value)
    assert data.constants.keys() == {f"null_{key}" for key in texts_of(0)}
    np.testing.assert_array_equal(data.constants["null_text"], texts_of(99)["text"])
    (tmp_path / "set" / "null_text.npz").write_bytes(b"short")
    assert find_damage(tmp_path / "set")[0].startswith("null_text.npz has SHA-256")
    with pytest.raises(ValueError, match=r"null_text\.npz"):
        opened(tmp_path / "set")


def test_images_behind_a_clip_bring_their_texts(tmp_path):
    write_latents(tmp_path / "set", captioned(shape=(4, *SHAPE)))
    batch = next(opened(tmp_path / "set", (2, *SHAPE), use_image_num=3))
    assert batch["text"].shape == (COUNT, 4, *TEXTS["text"])
    assert batch["text_t5_mask"].shape == (COUNT, 4, 3)
    for clip, texts in zip(batch["image"], batch["text"], strict=True):
        numbers = [int(clip[frame, 0, 0, 0]) for frame in (0, 2, 3, 4)]
        for number, text in zip(numbers, texts, strict=True):
            np.testing.assert_array_equal(text, texts_of(number)["text"])


def test_texts_must_be_those_of_the_model(tmp_path):
    write_latents(tmp_path / "set", captioned())
    write_latents(tmp_path / "none", samples())
    for wanted, told in (
        ({"text": (None, 7)}, r"holds text of \(5, 6\), wanted text of any number of tokens"),
        ({"text": (77, 6)}, "wanted text of 77 tokens of width 6"),
        ({"text_clip": (None, 6)}, "holds text, text_t5, wanted text_clip"),
    ):
        with pytest.raises(ValueError, match=told):
            opened(tmp_path / "set", wanted=wanted)
    with pytest.raises(ValueError, match="holds no embeddings of captions, wanted text"):
        opened(tmp_path / "none")
    with pytest.raises(ValueError, match="holds text, text_t5 in place of labels"):
        batches(tmp_path / "set")
    config = DataConfig(name="folder", path=str(tmp_path))
    with pytest.raises(ValueError, match="'folder' has no embeddings of captions"):
        open_data(config, sample_shape=(4, 4, 3), num_classes=1, batch_size=1, seed=0, texts=WANTED)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"text": np.zeros(3)}, r"text is \(3,\), wanted \(tokens, width\)"),
        ({"text_mask": np.zeros(4)}, "example 0 has"),
    ],
)
def test_bad_texts_write_nothing(tmp_path, changes, told):
    with pytest.raises(ValueError, match=told):
        write_latents(tmp_path / "set", [next(captioned()) | changes])
    with pytest.raises(ValueError, match="null_text: found"):
        write_latents(tmp_path / "set", captioned(), null_text={"text": np.zeros((5, 6))})
    assert not list(tmp_path.iterdir())
