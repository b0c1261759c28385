"""The encode tool refuses: damage, other settings, broken pictures, flags that mean nothing."""

import pytest

from skipdit_jax.cli import encode
from skipdit_jax.data.latent_files import FORMATS
from tests.cli.encode_kit import COUNT, SHAPE, contents, flags, made, opened, refused, save_vae
from tests.data.pictures import cut_short, write_tree

pytestmark = pytest.mark.usefixtures("without_compilation_cache")


@pytest.mark.parametrize("format", FORMATS)
def test_damage_is_found_and_named(tmp_path, photos, weights, capsys, format):
    folder = tmp_path / "set"
    made(folder, photos, weights, "--format", format)
    assert encode.main(["--verify", "--out", str(folder)]) == 0
    assert encode.main(flags(photos, weights, folder, "--format", format)) == 0
    assert capsys.readouterr().out.count("verified 2 shards, 10 examples") == 2
    second = folder / f"latents-00001.{format}"
    data = bytearray(second.read_bytes())
    data[len(data) // 2] ^= 1
    second.write_bytes(data)
    told = refused(["--verify", "--out", folder], capsys)
    assert f"{second.name} has SHA-256" in told
    assert "latents-00000" not in told
    assert second.name in refused(flags(photos, weights, folder, "--format", format), capsys)
    second.unlink()
    assert f"{second.name} is missing" in refused(["--verify", "--out", folder], capsys)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--seed", 1), "latents of seed 0, wanted 1"),
        (("--kind", "sample"), "latents of kind moments, wanted sample"),
        (("--flip",), "latents of examples 10, wanted 20"),
        (("--dtype", "float32"), "latents of dtype float16, wanted float32"),
    ],
)
def test_a_folder_of_other_settings_is_left_alone(finished, photos, weights, capsys, more, words):
    before = contents(finished)
    assert words in refused(flags(photos, weights, finished, *more), capsys)
    assert contents(finished) == before


def test_other_weights_are_other_settings(tmp_path, finished, photos, capsys):
    other = save_vae(tmp_path / "other.safetensors", loud=2)
    told = refused(flags(photos, other, finished), capsys)
    assert "latents of vae" in told


@pytest.mark.parametrize("format", FORMATS)
def test_a_broken_picture_is_named_and_whole_shards_stay(tmp_path, weights, capsys, format):
    data = write_tree(tmp_path / "photos")
    cut_short(data / "dog" / "3.png")
    argv = flags(data, weights, tmp_path / "set", "--format", format)
    assert f"{data}/dog/3.png: image file is truncated" in refused(argv, capsys)
    assert sorted(contents(tmp_path / "set")) == ["encoding.json", f"latents-00000.{format}"]
    with pytest.raises(ValueError, match="encoding is not finished") as told:
        opened(tmp_path / "set")
    assert "\n" not in str(told.value)
    assert "not finished" in refused(["--verify", "--out", tmp_path / "set"], capsys)
    write_tree(tmp_path / "whole")
    (tmp_path / "whole" / "dog" / "3.png").rename(data / "dog" / "3.png")
    first = (tmp_path / "set" / f"latents-00000.{format}").stat().st_mtime_ns
    assert encode.main(argv) == 0
    assert (tmp_path / "set" / f"latents-00000.{format}").stat().st_mtime_ns == first
    assert opened(tmp_path / "set")["image"].shape == (COUNT, *SHAPE)


def test_latents_that_do_not_fit_name_the_example(tmp_path, photos, capsys):
    loud = save_vae(tmp_path / "loud.safetensors", loud=1e6)
    told = refused(flags(photos, loud, tmp_path / "set"), capsys)
    assert "example 0 (picture 0): mean goes up to" in told
    assert sorted(contents(tmp_path / "set")) == ["encoding.json"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--image-size", 15), "--image-size 15: wanted a multiple of 2"),
        (("--slice", 3), "--slice 3: wanted a divisor of the 4 pictures or frames"),
        (("--flip", "--batch-size", 3), "batch_size: found 3, wanted an even number"),
        (("--flip", "--shard-size", 3), "shard_size: found 3, wanted an even number"),
        (("--frame-stride", 2), "--frame-stride: wanted --num-frames"),
        (("--data", "nowhere"), "--data nowhere: no folder 'nowhere'"),
        (("--data", "."), "has no class folders"),
        (("--data", "tfds:digits"), "wanted the name of a prepared set"),
        (("--vae", "gone.safetensors"), "gone.safetensors"),
        (("--batch-size", 0), "wanted a whole number >= 1"),
        (("--process-id", 0), "belong together"),
    ],
)
def test_bad_flags_write_nothing(own_folder, photos, weights, capsys, more, words):
    assert words in refused(flags(photos, weights, "set", *more), capsys)
    assert not list(own_folder.iterdir())


def test_a_batch_that_the_devices_cannot_split(photos, weights, monkeypatch, capsys):
    monkeypatch.setattr("jax.local_device_count", lambda: 3)
    assert "cannot be split over the 3 devices" in refused(flags(photos, weights, "x"), capsys)


def test_a_diffusion_model_is_no_autoencoder(own_folder, photos, small, capsys):
    assert "wanted an autoencoder" in refused(flags(photos, small, "set"), capsys)
    assert not list(own_folder.iterdir())


def test_source_and_autoencoder_are_asked_for(capsys):
    assert "wanted --data SOURCE and --vae" in refused(["--out", "x"], capsys)


def test_foreign_folders_are_left_alone(tmp_path, photos, weights, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    told = refused(flags(photos, weights, tmp_path), capsys)
    assert "holds notes.txt and no encoding.json, wanted a new or empty folder" in told
    (tmp_path / "notes.txt").rename(tmp_path / "encoding.json")
    assert "no record of a run" in refused(flags(photos, weights, tmp_path), capsys)
    assert "is a file" in refused(flags(photos, weights, tmp_path / "encoding.json"), capsys)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["encoding.json"]
