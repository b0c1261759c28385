"""What a user names and the set of samples that it is: files, folders, prepared sets, models."""

import numpy as np
import pytest
from PIL import Image

from skipdit_jax.data import digits
from skipdit_jax.evaluation.moments import fit_gaussian
from skipdit_jax.evaluation.references import ReferenceStatistics, write_reference
from skipdit_jax.evaluation.sets import HeldSet
from skipdit_jax.runs.sample_sets import ANY_SIZE, Cut, open_reference, open_samples
from tests.cli.makers import STEPS, save_small
from tests.data.pictures import write_tree
from tests.evaluation.edges import pictures

pytestmark = pytest.mark.usefixtures("compiled_once")


def all_of(samples):
    return np.concatenate(list(samples.chunks(0, 7)))


def opened(place, like=None, **cut):
    return open_samples(str(place), Cut(**cut), like)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Weights of a model of 4x4 pixels, 10 classes."""
    metadata = {"sampling": {"steps": STEPS, "guidance": 2.0}}
    return save_small(tmp_path_factory.mktemp("model") / "small.safetensors", metadata)


@pytest.fixture
def packed(tmp_path):
    np.savez(tmp_path / "some.npz", arr_0=pictures(6))
    return tmp_path / "some.npz"


def test_files_of_arrays(packed):
    np.testing.assert_array_equal(all_of(opened(packed)), pictures(6))
    np.testing.assert_array_equal(all_of(opened(packed, samples=4)), pictures(4 + 2)[:4])
    with pytest.raises(ValueError, match=r"some\.npz: found 6 samples, wanted 7"):
        opened(packed, samples=7)


def test_folders_of_pictures(tmp_path):
    write_tree(tmp_path / "x", count=3)
    assert (opened(tmp_path / "x").shape, len(opened(tmp_path / "x"))) == ((20, 24, 3), 6)
    assert opened(tmp_path / "x", image_size=8, samples=5).shape == (8, 8, 3)


def test_a_folder_of_sample_py_is_its_array(tmp_path, packed):
    folder = write_tree(tmp_path / "run", count=1)
    (folder / "run.json").write_text("{}")
    with pytest.raises(ValueError, match=r"has no samples\.npz, wanted a run of sample\.py that"):
        opened(folder)
    packed.rename(folder / "samples.npz")
    np.testing.assert_array_equal(all_of(opened(folder)), pictures(6))


def test_prepared_sets_by_name_and_split():
    found = opened("digits:test")
    images, _ = digits.load_digits("test")
    assert found.shape == (8, 8, 1)
    np.testing.assert_array_equal(all_of(found), np.floor(127.5 * images + 128).clip(0, 255))
    assert found.fingerprint != opened("digits:train").fingerprint
    assert len(opened("digits:test", samples=5)) == 5
    with pytest.raises(ValueError, match="found 'val'"):
        opened("digits:val")


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("nowhere", "nowhere: is not there, wanted a file, a folder or NAME:SPLIT"),
        ("nowhere:train", "nowhere:train: does not say how large samples are, wanted --image-size"),
    ],
)
def test_what_is_not_there_is_told(place, told):
    with pytest.raises(ValueError, match=told):
        opened(place)


def test_places_without_samples_are_told(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: is empty, wanted pictures, videos or samples"):
        opened(tmp_path / "empty")
    (tmp_path / "empty" / "a.txt").touch()
    with pytest.raises(ValueError, match=r"found no pictures but 1 \.txt, wanted --image-size"):
        opened(tmp_path / "empty")
    with pytest.raises(ValueError, match="has no videos, wanted at least one"):
        opened(tmp_path / "empty", image_size=8)
    with pytest.raises(ValueError, match=r"a\.txt: wanted a folder, an \.npz file or weights"):
        opened(tmp_path / "empty" / "a.txt")


def test_folders_of_frames_are_clips_where_clips_are_asked_for(tmp_path):
    for number in range(2):
        folder = tmp_path / "clips" / f"{number}"
        folder.mkdir(parents=True)
        for frame in range(6):
            Image.new("L", (12, 12), 40 * frame + number).save(folder / f"{frame}.png")
    assert opened(tmp_path / "clips").shape == (12, 12, 3)
    assert len(opened(tmp_path / "clips")) == 12
    found = opened(tmp_path / "clips", num_frames=6, image_size=12)
    assert (len(found), found.shape) == (2, (6, 12, 12, 3))
    levels = all_of(found)[:, :, 0, 0, 0]
    np.testing.assert_array_equal(levels, 40 * np.arange(6) + np.arange(2)[:, None])
    like = HeldSet("like", pictures(2, shape=(6, 12, 12, 1)))
    np.testing.assert_array_equal(
        all_of(opened(tmp_path / "clips", like))[..., 0], all_of(found)[..., 0]
    )


def test_files_of_video_become_clips(tmp_path):
    pytest.importorskip("av")
    from tests.data.videos import write_video

    for number in range(2):
        write_video(tmp_path / "clips" / f"{number}.mp4", count=24)
    found = opened(tmp_path / "clips", image_size=8, num_frames=5, frame_stride=2)
    assert (len(found), found.shape) == (2, (5, 8, 8, 3))
    rows = all_of(found)
    np.testing.assert_array_equal(rows, all_of(found))  # a clip always begins at the same frame
    fewer = opened(tmp_path / "clips", image_size=8)
    assert fewer.shape == (16, 8, 8, 3)
    like = HeldSet("like", pictures(2, shape=(4, 8, 8, 1)))
    assert opened(tmp_path / "clips", like).shape == (4, 8, 8, 1)
    prints = {one.fingerprint for one in (found, fewer, opened(tmp_path / "clips", like))}
    write_video(tmp_path / "clips" / "1.mp4", count=30)
    assert opened(tmp_path / "clips", image_size=8).fingerprint not in prints
    assert len(prints) == 3


def test_models_of_pixels_are_drawn_from(model):
    found = opened(model, samples=12, seed=3)
    assert (len(found), found.shape) == (12, (4, 4, 1))
    np.testing.assert_array_equal(all_of(found), all_of(opened(model, samples=12, seed=3)))
    assert found.fingerprint != opened(model, samples=12, seed=4).fingerprint
    assert len(np.unique(all_of(found).reshape(12, -1), axis=0)) == 12
    with pytest.raises(ValueError, match="is a model, wanted --num-samples to draw from it"):
        opened(model)


def test_as_a_reference_a_model_draws_as_many_as_there_are_samples(model):
    found = open_reference(str(model), ANY_SIZE, HeldSet("some", pictures(3, shape=(4, 4, 1))))
    assert (len(found.samples), found.statistics) == (3, None)


def test_models_of_latents_are_refused(tmp_path):
    latents = save_small(tmp_path / "latents.safetensors", in_channels=4)
    with pytest.raises(
        ValueError, match="draws latents or reads texts, wanted its samples: sample"
    ):
        opened(latents, samples=2)


def statistics(width=3):
    fit = fit_gaussian(np.random.default_rng(0).normal(size=(20, width)))
    return ReferenceStatistics(fit, None, {})


def test_a_reference_is_statistics_samples_or_both(tmp_path, packed):
    like = opened(packed)
    assert open_reference(None, ANY_SIZE, like) == (None, None)
    found = open_reference(str(packed), ANY_SIZE, like)
    assert (len(found.samples), found.statistics) == (6, None)
    write_reference(tmp_path / "known.npz", statistics())
    found = open_reference(str(tmp_path / "known.npz"), ANY_SIZE, like)
    assert found.samples is None
    np.testing.assert_array_equal(found.statistics.pooled.mean, statistics().pooled.mean)
    with np.load(tmp_path / "known.npz") as file:
        np.savez(tmp_path / "both.npz", arr_0=pictures(5), **{n: file[n] for n in ("mu", "sigma")})
    found = open_reference(str(tmp_path / "both.npz"), ANY_SIZE, like)
    assert len(found.samples) == 5
    assert found.statistics.spatial is None
