import numpy as np
import pytest

from skipdit_jax.data.clips import Window
from skipdit_jax.data.config import DataConfig
from skipdit_jax.data.latent_files import FORMATS, write_latents
from skipdit_jax.data.open import open_data
from skipdit_jax.data.sources import BrokenExampleError
from skipdit_jax.data.transforms import RandomFlip

FRAMES, STORED, COUNT, CLASSES = 3, 7, 5, 2
SHAPE = (FRAMES, 4, 4, 2)


@pytest.mark.parametrize(
    ("frames", "stride", "count"), [(4, 3, 10), (4, 3, 11), (1, 5, 7), (16, 1, 30)]
)
def test_starts_share_the_unit_interval_evenly(frames, stride, count):
    window = Window(frames, stride)
    places = count - (frames - 1) * stride
    for start in range(places):
        want = list(range(start, count, stride))[:frames]
        for inside in (1e-9, 0.5, 1 - 1e-9):
            assert window.choose(count, (start + inside) / places, "x").tolist() == want
    assert window.choose(count, np.nextafter(1, 0), "x")[-1] == count - 1


def test_a_short_video_is_named():
    with pytest.raises(BrokenExampleError) as caught:
        Window(16, 3).choose(9, 0.0, "clips/a/3.mp4")
    assert str(caught.value) == "clips/a/3.mp4: 9 frames, wanted 16 at stride 3 (46)"


def test_a_flip_turns_width_alone():
    clip = np.random.default_rng(0).normal(size=(FRAMES, 2, 4, 1))
    seen = [
        RandomFlip().random_map({"image": clip}, np.random.default_rng(seed))["image"]
        for seed in range(10)
    ]
    mirrored = [not np.array_equal(one, clip) for one in seen]
    assert set(mirrored) == {True, False}
    for one, turned in zip(seen, mirrored, strict=True):
        np.testing.assert_array_equal(one, clip[:, :, ::-1] if turned else clip)


# Latents of clips: frame f of example i is the constant 100 (i + 1) + f.


def samples(dtype=np.float32):
    for index in range(COUNT):
        levels = 100 * (index + 1) + np.arange(STORED, dtype=dtype)
        frames = np.broadcast_to(levels[:, None, None, None], (STORED, *SHAPE[1:]))
        yield {"sample": np.ascontiguousarray(frames), "label": index % CLASSES}


def moments():
    for one in samples():
        yield {
            "mean": one["sample"],
            "logvar": np.full_like(one["sample"], -80),
            "label": one["label"],
        }


def latents(path, *, shape=SHAPE, batch_size=40, **config):
    return open_data(
        DataConfig(name="latents", path=str(path), latent_scale=1, **config),
        sample_shape=shape,
        num_classes=CLASSES,
        batch_size=batch_size,
        seed=0,
    )


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", [samples, moments])
def test_stored_clips_give_frames_at_the_stride(tmp_path, format, kind):
    write_latents(tmp_path / "set", kind(), format=format)
    batch = next(latents(tmp_path / "set", frame_stride=2))
    assert batch["image"].shape == (40, *SHAPE)
    levels = batch["image"][:, :, 0, 0, 0]
    np.testing.assert_array_equal(batch["image"], levels[..., None, None, None] + np.zeros(SHAPE))
    np.testing.assert_array_equal(np.diff(levels), 2)
    np.testing.assert_array_equal((levels[:, 0] // 100 - 1) % CLASSES, batch["label"])
    assert set(levels[:, 0] % 100) == {0, 1, 2}


def test_clips_of_the_wanted_length_come_whole(tmp_path):
    write_latents(tmp_path / "set", samples())
    data = latents(tmp_path / "set", shape=(STORED, *SHAPE[1:]), batch_size=COUNT, shuffle=False)
    np.testing.assert_array_equal(next(data)["image"], [one["sample"] for one in samples()])


def test_images_of_other_stored_clips_stand_behind(tmp_path):
    write_latents(tmp_path / "set", moments())
    batch = next(latents(tmp_path / "set", use_image_num=2))
    assert batch["image"].shape == (40, FRAMES + 2, *SHAPE[1:])
    levels = batch["image"][:, :, 0, 0, 0]
    clips, stills = levels[:, 0] // 100, levels[:, FRAMES:] // 100
    np.testing.assert_array_equal((stills - 1) % CLASSES, batch["image_labels"])
    assert not (stills == clips[:, None]).any()
    assert set((levels[:, FRAMES:] % 100).ravel()) == set(range(STORED))


def test_what_does_not_fit_is_named(tmp_path):
    write_latents(tmp_path / "set", samples())
    with pytest.raises(ValueError, match=r"set\[[0-4]\]: 7 frames, wanted 3 at stride 4 \(9\)"):
        next(latents(tmp_path / "set", frame_stride=4))
    with pytest.raises(ValueError, match=r"sample of example [0-4] is \(3, 4, 4, 2\), wanted"):
        next(latents(tmp_path / "set", shape=(FRAMES, 8, 8, 2)))
    with pytest.raises(ValueError, match=r"is \(7, 4, 4, 2\), wanted \(4, 4, 2\)"):
        next(latents(tmp_path / "set", shape=(4, 4, 2)))
    with pytest.raises(ValueError, match=r"data\.num_frames: found 7, wanted the model's 3"):
        latents(tmp_path / "set", num_frames=7)
    still = {"sample": np.zeros((4, 4, 2), np.float32), "label": 0}
    write_latents(tmp_path / "still", [still])
    with pytest.raises(ValueError, match=r"sample is \(4, 4, 2\), wanted a clip \[F,H,W,C\]"):
        next(latents(tmp_path / "still"))
