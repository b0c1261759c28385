"""The encode tool: what it stores is what the autoencoder gives, and training reads it."""

import json

import numpy as np
import pytest
from PIL import Image

from skipdit_jax.cli import encode
from skipdit_jax.cli.encode_options import make_parser
from skipdit_jax.data.digits_builder import prepare_digits
from skipdit_jax.data.latent_files import FORMATS
from tests.cli.encode_kit import (
    BATCH,
    COUNT,
    SHAPE,
    SHARD,
    SIDE,
    assert_near,
    contents,
    direct,
    examples,
    flags,
    made,
    opened,
    refused,
    save_vae,
)
from tests.data.pictures import cut_short, write_tree
from tests.data.videos import SPAN, picture, write_frames

pytestmark = pytest.mark.usefixtures("without_compilation_cache")


@pytest.fixture(scope="module")
def pixels():
    """Those pictures, in order."""
    rng = np.random.default_rng(0)
    shape = (SIDE, SIDE, 3)
    return np.stack([rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(COUNT)])


@pytest.mark.parametrize(
    ("format", "dtype", "rounding"),
    [("npz", "float32", 0.0), ("array_record", "float16", 2**-11)],
)
def test_moments_are_those_of_a_direct_encode(
    tmp_path, photos, weights, pixels, format, dtype, rounding
):
    stored = made(tmp_path / "set", photos, weights, "--dtype", dtype, "--format", format)
    wanted = direct(pixels)
    assert stored["mean"].dtype == stored["logvar"].dtype == dtype
    for name in ("mean", "logvar"):
        found = stored[name].astype(np.float32)
        assert_near(found, getattr(wanted, name), rounding)
    assert stored["label"].tolist() == [0] * 5 + [1] * 5


def test_mirror_images_are_the_neighbours_of_pictures(tmp_path, photos, weights, pixels):
    stored = made(tmp_path / "set", photos, weights, "--flip", "--dtype", "float32")
    for view, shown in enumerate((pixels, pixels[:, :, ::-1])):
        assert_near(stored["mean"][view::2], direct(shown).mean)
    assert stored["label"].tolist() == [0] * 10 + [1] * 10


def test_samples_are_draws_of_the_moments(tmp_path, photos, weights, pixels):
    more = ("--kind", "sample", "--flip", "--dtype", "float32", "--seed")
    sample = made(tmp_path / "set", photos, weights, *more, 1)["sample"]
    views = np.stack([pixels, pixels[:, :, ::-1]], 1).reshape(-1, *pixels.shape[1:])
    moments = direct(views)
    noise = ((sample - moments.mean) / np.exp(moments.logvar / 2)).reshape(2 * COUNT, -1)
    spread = 5 / np.sqrt(noise.size)
    assert abs(noise.mean()) < spread
    assert abs(noise.std() - 1) < spread
    alike = np.corrcoef(noise) - np.eye(len(noise))
    np.testing.assert_allclose(alike, 0, atol=5 / np.sqrt(noise.shape[1]))
    again = made(
        tmp_path / "again", photos, weights, *more, 1, "--batch-size", 2, "--shard-size", 8
    )
    assert_near(again["sample"], sample)
    other = made(tmp_path / "other", photos, weights, *more, 2)
    assert (other["sample"] != sample).mean() > 0.99


@pytest.mark.parametrize("format", FORMATS)
def test_training_reads_the_folder(tmp_path, photos, weights, format):
    stored = made(tmp_path / "set", photos, weights, "--format", format)
    batch = opened(tmp_path / "set", shuffle=False)
    assert batch["image"].shape == (COUNT, *SHAPE)
    assert batch["label"].tolist() == stored["label"].tolist()


def test_clips_are_windows_of_videos(tmp_path):
    """Through a temporal autoencoder, which encodes frame by frame as well."""
    vae = save_vae(tmp_path / "vae.safetensors", "vae_temporal")
    data, size = tmp_path / "videos", (SIDE, SIDE)
    for index, name in enumerate(("cat/a", "cat/b", "cat/c", "dog/d")):
        write_frames(data / name, count=SPAN, first=SPAN * index, shape=size)
    typed = ("--num-frames", 3, "--frame-stride", 2, "--dtype", "float32", "--slice", 6)
    stored = made(tmp_path / "set", data, vae, *typed)
    assert stored["label"].tolist() == [0, 0, 0, 1]
    frames = direct(np.stack([picture(n, size) for n in range(4 * SPAN)]), "vae_temporal").mean
    starts = []
    for frames_of_video, clip in zip(frames.reshape(4, SPAN, *SHAPE), stored["mean"], strict=True):
        windows = np.stack([frames_of_video[at : at + 5 : 2] for at in range(SPAN - 4)])
        distance = np.abs(windows - clip).max(axis=(1, 2, 3, 4))
        assert np.sort(distance)[0] < 1e-5 < np.sort(distance)[1]
        starts.append(int(distance.argmin()))
    assert len(set(starts)) > 1
    assert opened(tmp_path / "set", (2, *SHAPE), 4)["image"].shape == (4, 2, *SHAPE)


@pytest.mark.parametrize("format", FORMATS)
def test_broken_pictures_are_skipped_and_named(tmp_path, weights, pixels, capsys, format):
    """Picture 2, and picture 9, which is all that the last shard would hold."""
    data = write_tree(tmp_path / "photos", shape=(SIDE, SIDE, 3))
    cut_short(data / "cat" / "2.png")
    cut_short(data / "dog" / "4.png")
    out = tmp_path / "set"
    more = ("--dtype", "float32", "--format", format, "--shard-size", 3)
    assert f"{data}/cat/2.png: image file is truncated" in refused(
        flags(data, weights, out, *more), capsys
    )
    stored = made(out, data, weights, *more, "--skip-broken")
    told = capsys.readouterr().out
    assert "read     8 pictures of 2 classes: cat 4, dog 4\n" in told
    assert f"skipped  2 broken pictures:\n         {data}/cat/2.png: image" in told
    assert "--config.model.num_classes=2 " in told
    kept = np.delete(direct(pixels).mean, [2, 9], axis=0)
    assert_near(stored["mean"], kept)
    assert stored["label"].tolist() == [0] * 4 + [1] * 4
    assert opened(out, batch_size=8)["image"].shape == (8, *SHAPE)
    manifest = json.loads((out / "latents.json").read_text())
    assert [*manifest["shards"].values()] == [2, 3, 3, 0]
    assert (manifest["classes"], manifest["class_counts"]) == (["cat", "dog"], [4, 4])
    whole = contents(out)
    for name in ("latents.json", f"latents-00000.{format}", f"latents-00003.{format}"):
        (out / name).unlink()
    # Notes of shards that were not made again are gone with the manifest: as after a kill.
    made(out, data, weights, *more, "--skip-broken")
    assert contents(out) == whole


def test_notes_of_a_run_that_was_stopped_are_kept(tmp_path, weights, monkeypatch):
    data = write_tree(tmp_path / "photos", shape=(SIDE, SIDE, 3))
    cut_short(data / "cat" / "0.png")
    typed = flags(data, weights, tmp_path / "set", "--skip-broken", "--flip")
    whole = flags(data, weights, tmp_path / "whole", "--skip-broken", "--flip")
    assert encode.main(whole) == 0
    with monkeypatch.context() as patch:
        patch.setattr(encode, "finish", lambda job: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            encode.main(typed)
    assert (tmp_path / "set" / "latents-00000.array_record.broken.json").exists()
    assert encode.main(typed) == 0
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")
    assert len(examples(tmp_path / "set")["label"]) == 2 * (COUNT - 1)


def test_nothing_but_broken_pictures_is_an_error(tmp_path, weights, capsys):
    data = write_tree(tmp_path / "photos", count=1)
    for path in data.rglob("*.png"):
        cut_short(path)
    told = refused(flags(data, weights, tmp_path / "set", "--skip-broken"), capsys)
    assert f"all pictures are broken, the first is {data}/cat/0.png: image" in told


def test_pictures_need_not_be_square(tmp_path, weights, capsys):
    data = write_tree(tmp_path / "photos", shape=(SIDE, 2 * SIDE, 3))
    typed = flags(data, weights, tmp_path / "set", "--dtype", "float32")
    typed += ["--image-size", str(SIDE), str(2 * SIDE)]
    assert encode.main(typed) == 0
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (COUNT, SIDE, 2 * SIDE, 3), dtype=np.uint8)
    stored = examples(tmp_path / "set")
    assert_near(stored["mean"], direct(pixels).mean)
    typed[-2:] = ["16", "32", "8"]
    assert "--image-size [16, 32, 8]: wanted a side, or height and width" in refused(typed, capsys)


def test_pictures_are_turned_unless_stored_is_asked_for(tmp_path, weights, capsys):
    tags = Image.Exif()
    tags[0x112] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / "photos" / "cat" / "0.png", exif=tags)
    for more, shown in (((), np.rot90(pixels, -1)), (("--orientation", "stored"), pixels)):
        stored = made(
            tmp_path / f"set{len(more)}", tmp_path / "photos", weights, "--dtype", "float32", *more
        )
        want = direct(np.stack([shown] * COUNT)).mean[:1]  # a program that is compiled already
        assert_near(stored["mean"], want)
    typed = flags(tmp_path / "photos", weights, tmp_path / "set2", "--dtype", "float32")
    assert "latents of orientation stored, wanted upright" in refused(typed, capsys)


def test_prepared_sets_of_tfds_are_sources(tmp_path, weights, capsys):
    prepare_digits(tmp_path / "tfds")
    typed = ("--data-dir", tmp_path / "tfds", "--split", "test[:50]", "--image-size", 8)
    argv = flags("tfds:skipdit_digits", weights, tmp_path / "set", *typed)
    job = encode.prepare_encoding(encode.parse(argv))
    assert len(job.source) == job.plan.examples == 50
    # These are grey, which the autoencoder does not take.
    assert "image of example 0 is (8, 8, 1), wanted (8, 8, 3)" in refused(argv, capsys)


def test_what_was_done_is_told(tmp_path, photos, weights, capsys):
    made(tmp_path / "set", photos, weights)
    told = capsys.readouterr().out
    assert f"{photos}: {COUNT} pictures of 16x16x3" in told
    assert "mean and logvar of 8x8x4, float16" in told
    assert f"--config.data.name=latents --config.data.path={tmp_path / 'set'}\n" in told
    assert "10 examples, labels 0..1, 2 shards" in told


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_share_all_shards_without_overlap(tmp_path, photos, weights, processes):
    job = encode.prepare_encoding(encode.parse(flags(photos, weights, tmp_path / "set")))
    shares = [encode.find_pieces(job, process, processes) for process in range(processes)]
    numbers = [number for share in shares for piece in share for number in piece.numbers]
    assert sorted(numbers) == list(range(COUNT))
    owners = [{piece.shard for piece in share} for share in shares]
    assert sum(map(len, owners)) == -(-COUNT // SHARD)
    assert all(len(piece.numbers) <= BATCH for share in shares for piece in share)


def test_settings_stand_in_both_records(finished, photos):
    begun = json.loads((finished / "encoding.json").read_text())
    ended = json.loads((finished / "latents.json").read_text())
    assert ended["encoding"] == begun
    assert begun["data"] == str(photos)
    assert set(ended["checksums"]) == set(ended["shards"])


def test_help_names_every_flag_and_shows_how(capsys):
    with pytest.raises(SystemExit) as stopped:
        encode.main(["--help"])
    assert stopped.value.code == 0
    told = capsys.readouterr().out
    assert "examples:" in told
    assert all(action.help for action in make_parser()._actions)
