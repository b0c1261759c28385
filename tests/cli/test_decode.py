"""sample.py with an autoencoder: latents become pictures and clips."""

import json

import numpy as np
import pytest
from PIL import Image

from skipdit_jax.checkpoints import released
from skipdit_jax.cli import decoder, sample
from skipdit_jax.cli.options import parse
from skipdit_jax.cli.sample import main
from skipdit_jax.encoders.pixels import DecodeOptions, decode_latents
from skipdit_jax.visualise.grids import enlarge, make_grid, to_uint8
from skipdit_jax.weights import export_vae, open_known
from skipdit_jax.weights.recipe import Recipe
from tests.cli import makers
from tests.encoders import tiny

SIDE = 8  # pixels: latents of 4, twice as large
FEW = ("--num-sampling-steps", "4", "--cfg-scale", "1", "--class-labels", "3", "1", "4")


def stand_in():
    """No weights tell the groups of norms: as many as published."""
    return tiny.make("vae", block_out_channels=(32, 32), norm_num_groups=32)


@pytest.fixture(scope="module")
def vae_file(tmp_path_factory):
    vae, params = stand_in()
    path = tmp_path_factory.mktemp("vae") / "vae.safetensors"
    export_vae(path, params, vae)
    return path


@pytest.fixture(scope="module")
def clip_latents(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "clips.safetensors"
    return makers.save_small(path, family="latte", skip=False, in_channels=4, num_frames=3)


def latents_of(*flags):
    main([*map(str, flags), "--vae", "none", "--out", "latents.npz"])
    return np.load("latents.npz")["latents"]


def test_pictures_are_the_decoded_latents(plain_latents, vae_file, own_folder, capsys):
    flags = ("--ckpt", plain_latents, *FEW, "--vae-slice", "2")
    assert main([*map(str, flags), "--vae", str(vae_file), "--npz", "pictures.npz"]) == 0
    assert "decoder  AutoencoderKL" in capsys.readouterr().out
    latents = latents_of("--ckpt", plain_latents, *FEW)
    vae, params = stand_in()
    whole = to_uint8(np.asarray(decode_latents(vae, params, latents)))
    written = np.load("pictures.npz")
    assert written["arr_0"].shape == (3, SIDE, SIDE, 3)
    assert np.abs(written["arr_0"].astype(int) - whole).max() <= 1
    assert written["labels"].tolist() == [3, 1, 4]
    with Image.open("samples.png") as grid:
        assert np.array_equal(grid, make_grid(enlarge(written["arr_0"]), 3))


def test_comparison_is_of_pictures(vae_file, tmp_path, own_folder, monkeypatch):
    skips = makers.save_small(tmp_path / "skips.safetensors", in_channels=4)
    monkeypatch.setattr(sample.compare, "ROUNDS", 1)
    monkeypatch.setattr(sample.compare, "INTERVALS", (2,))
    flags = ("--ckpt", skips, *FEW, "--vae", vae_file, "--compare", "--npz", "all.npz")
    main([*map(str, flags)])
    shown = np.load("all.npz")["arr_0"]
    assert shown.dtype == np.uint8
    assert shown.shape[1:] == (SIDE, SIDE, 3)


def test_many_samples_are_pictures(plain_latents, vae_file, own_folder):
    flags = ["--ckpt", plain_latents, "--vae", vae_file, "--num-sampling-steps", 2]
    flags += ["--num-fid-samples", 3, "--per-proc-batch-size", 2, "--sample-dir", "many"]
    main([*map(str, flags)])
    assert np.load("many/samples.npz")["arr_0"].shape == (3, SIDE, SIDE, 3)
    with Image.open("many/000002.png") as picture:
        assert picture.size == (SIDE, SIDE)
    record = json.loads((own_folder / "many/run.json").read_text())
    assert "AutoencoderKL float32, times 0.18215" in record["decoder"]
    with pytest.raises(SystemExit):
        main([*map(str, flags), "--vae-slice", "2"])


def test_slices_fill_up_and_tiles_come_near(vae_file):
    vae, params = stand_in()
    latents = np.asarray(tiny.latents(5, 24, 24, 4))
    whole = np.clip(np.asarray(decode_latents(vae, params, latents)), -1, 1)
    sliced = decoder.Decoder(vae, params, vae_file, slice_=3)(latents)
    assert np.abs(sliced - whole).max() < 1e-5
    tiled = decoder.Decoder(vae, params, vae_file, tile=16)(latents)
    assert tiled.shape == whole.shape
    expected = decode_latents(vae, params, latents, DecodeOptions(tile=16, overlap=8))
    assert np.abs(tiled - np.clip(np.asarray(expected), -1, 1)).max() < 1e-5


def chosen(path, *flags, pixels=False, **recipe):
    options = parse([*map(str, flags)])
    return decoder.choose_vae(options, Recipe(**recipe), open_known(path), pixels)


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A state dict of torch that counts as a released one."""
    path = makers.save_small(tmp_path / "bare.pt", in_channels=4)
    handles = open_known(path).handles.values()
    row = released.RELEASED[0]._replace(
        numbers=released.count_numbers(handle.shape for handle in handles)
    )
    monkeypatch.setattr(released, "RELEASED", (row,))
    return path


def test_the_autoencoder_is_typed_or_the_checkpoints_own(plain_latents, bare):
    assert chosen(plain_latents) is None
    assert chosen(plain_latents, "--vae", "ema") == "ema"
    assert chosen(plain_latents, vae="mse") == "mse"
    assert chosen(plain_latents, "--vae", "none", vae="mse") is None
    assert chosen(plain_latents, "--vae", "my.bin", vae="mse") == "my.bin"
    assert chosen(bare) == "mse"
    assert chosen(bare, "--vae", "ema") == "ema"
    assert chosen(bare, "--out", "latents.npz") is None
    assert chosen(bare, pixels=True) is None


@pytest.mark.parametrize("vae", ["/etc/passwd", "my.bin", "https://host/a.bin", "hf://a/b/c.bin"])
def test_only_a_run_folder_chooses_what_is_opened_or_fetched(plain_latents, tmp_path, vae):
    with pytest.raises(ValueError, match="which only a run folder may choose: give --vae"):
        chosen(plain_latents, "--ckpt", plain_latents, vae=vae)
    assert chosen(plain_latents, "--ckpt", plain_latents, "--vae", vae, vae=vae) == vae
    assert chosen(plain_latents, "--ckpt", plain_latents, "--vae", "none", vae=vae) is None
    (tmp_path / "ema.safetensors").touch()
    assert chosen(plain_latents, "--ckpt", tmp_path, vae=vae) == vae  # somebody's own run
    released_one = released.VAE_SOURCES["ema"]
    assert chosen(plain_latents, "--ckpt", plain_latents, vae=released_one) == released_one


def refused(capsys, *flags):
    with pytest.raises(SystemExit, match="2"):
        main([*map(str, flags)])
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    return line


def test_autoencoders_that_have_no_place_are_refused(
    small, plain_latents, vae_file, own_folder, capsys
):
    assert "draws pixels" in refused(capsys, "--ckpt", small, "--vae", vae_file)
    latents = ("--ckpt", plain_latents)
    assert "holds latents" in refused(capsys, *latents, "--vae", "mse", "--out", "a.npz")
    assert "nothing is decoded" in refused(capsys, *latents, "--vae-slice", 2)
    assert "no.bin" in refused(capsys, *latents, "--vae", "no.bin")
    assert "wanted an autoencoder" in refused(capsys, *latents, "--vae", plain_latents)
    assert not list(own_folder.iterdir())


def test_an_autoencoder_of_other_latents_is_named(plain_latents, tmp_path, own_folder, capsys):
    vae, params = tiny.make(
        "vae", block_out_channels=(32, 32), norm_num_groups=32, latent_channels=16
    )
    path = tmp_path / "sixteen.safetensors"
    export_vae(path, params, vae)
    line = refused(capsys, "--ckpt", plain_latents, "--vae", path)
    assert "sixteen.safetensors: is an AutoencoderKL of 16 latent channels, wanted 4 for" in line


def test_one_that_decodes_clips_is_no_use_for_pictures(plain_latents, tmp_path, own_folder, capsys):
    vae, params = tiny.make("vae_temporal", block_out_channels=(32, 32), norm_num_groups=32)
    path = tmp_path / "temporal.safetensors"
    export_vae(path, params, vae)
    assert "which decodes clips" in refused(capsys, "--ckpt", plain_latents, "--vae", path)


def test_clips_through_the_temporal_decoder(clip_latents, tmp_path, own_folder):
    vae, params = tiny.make("vae_temporal", block_out_channels=(32, 32), norm_num_groups=32)
    path = tmp_path / "temporal.safetensors"
    export_vae(path, params, vae)
    main([*map(str, ("--ckpt", clip_latents, *FEW, "--vae", path, "--npz", "clips.npz"))])
    assert np.load("clips.npz")["arr_0"].shape == (3, 3, SIDE, SIDE, 3)
    decoded = to_uint8(
        np.asarray(decode_latents(vae, params, latents_of("--ckpt", clip_latents, *FEW)))
    )
    assert np.abs(np.load("clips.npz")["arr_0"].astype(int) - decoded).max() <= 1
