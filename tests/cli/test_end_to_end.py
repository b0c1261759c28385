"""From a name to pictures: fetch, import, sample with cache, decode, write.

The files were saved by PyTorch in the layouts of the released ones, at small sizes; the server
stands on this machine.
"""

import hashlib

import numpy as np
import pytest
from huggingface_hub import constants
from PIL import Image

import skipdit_jax as sd
from skipdit_jax.checkpoints import released
from skipdit_jax.cli import decoder, models
from skipdit_jax.cli.sample import main
from skipdit_jax.weights import export_vae, open_known
from tests.checkpoints import hub_server
from tests.checkpoints.states import write_state
from tests.encoders import tiny

SIDE = 16  # pixels: latents of 8, twice as large
RUN = ("--num-heads", "3", "--num-sampling-steps", "6", "--cache", "N2")
OLDER = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


@pytest.fixture(scope="module")
def autoencoders(tmp_path_factory):
    """Bytes of an autoencoder as .safetensors, with older names as .bin, and one of clips."""
    folder = tmp_path_factory.mktemp("vae")
    size = {"block_out_channels": (32, 32), "norm_num_groups": 32}
    for family in ("vae", "vae_temporal"):
        vae, params = tiny.make(family, **size)
        export_vae(folder / f"{family}.safetensors", params, vae)
    arrays = {
        older(name): handle.read()
        for name, handle in open_known(folder / "vae.safetensors").handles.items()
    }
    write_state(folder / "older.bin", arrays)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def older(name):
    for new, old in OLDER.items():
        name = name.replace(f".{new}.", f".{old}.")
    return name


@pytest.fixture
def server(tmp_path, monkeypatch, autoencoders):
    with hub_server.as_hub(tmp_path, monkeypatch) as server:
        server.put("stabilityai/sd-vae-ft-mse", released.VAE_FILE, autoencoders["vae.safetensors"])
        server.put("stabilityai/sd-vae-ft-ema", released.VAE_FILE, autoencoders["vae.safetensors"])
        server.put("someone/old-vae", "vae.bin", autoencoders["older.bin"])
        server.put("someone/svd", "vae.safetensors", autoencoders["vae_temporal.safetensors"])
        yield server


def pictures(*flags):
    assert main([*map(str, (*flags, *RUN)), "--npz", "drawn.npz"]) == 0
    return np.load("drawn.npz")["arr_0"]


@pytest.mark.golden("ckpt")
def test_a_skip_dit_of_the_hub_with_the_autoencoder_it_was_released_with(
    golden, server, own_folder, capsys, monkeypatch
):
    data = (golden / "train_full.pt").read_bytes()
    handles = open_known(golden / "train_full.pt").handles.values()
    numbers = released.count_numbers(handle.shape for handle in handles)
    row = released.RELEASED[0]._replace(numbers=numbers)
    monkeypatch.setattr(released, "RELEASED", (row,))
    monkeypatch.setattr(models, "RELEASED", (row,))
    server.put("GuanjieChen/Skip-DiT", "DiT-XL-2-skip.pt", data)
    server.breaks, server.keep = 1, 500_000  # the first transfer breaks off
    drawn = pictures("--ckpt", row.source, "--class-labels", 0, 1, 2)
    told = capsys.readouterr()
    assert hashlib.sha256(data).hexdigest() in told.out
    assert "sd-vae-ft-mse" in told.out
    assert drawn.shape == (3, SIDE, SIDE, 3)
    with Image.open("samples.png") as grid:
        assert grid.size[0] > 3 * SIDE
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    again = pictures("--ckpt", row.source, "--class-labels", 0, 1, 2)
    assert np.array_equal(again, drawn)
    capsys.readouterr()
    assert models.main([]) == 0
    listed = capsys.readouterr().out
    assert hashlib.sha256(data).hexdigest() in listed


@pytest.mark.golden("ckpt")
def test_a_plain_dit_of_another_server_with_an_older_autoencoder(golden, server, own_folder):
    server.files["DiT/models/DiT.pt"] = (golden / "DiT-tiny-2-bare.pt").read_bytes()
    source = f"{server.address}/DiT/models/DiT.pt"
    flags = ("--num-heads", 3, "--num-sampling-steps", 2, "--class-labels", 4, "--npz", "a.npz")
    main([*map(str, ("--ckpt", source, *flags, "--vae", "hf://someone/old-vae/vae.bin"))])
    first = np.load("a.npz")["arr_0"]
    main([*map(str, ("--ckpt", source, *flags, "--vae", "ema"))])
    assert first.shape == (1, SIDE, SIDE, 3)
    assert np.array_equal(first, np.load("a.npz")["arr_0"])  # the same weights by other names


@pytest.mark.golden("ckpt")
@pytest.mark.parametrize("vae", ["ema", "hf://someone/svd/vae.safetensors"])
def test_a_latte_of_the_hub_becomes_clips(golden, server, own_folder, vae):
    data = (golden / "ema_only.pt").read_bytes()
    server.put("GuanjieChen/Skip-DiT", "ffs-skip.pt", data)
    source = "hf://GuanjieChen/Skip-DiT/ffs-skip.pt"
    drawn = pictures("--ckpt", source, "--vae", vae, "--num-samples", 2, "--out", "clips.mp4")
    assert drawn.shape == (2, 3, SIDE, SIDE, 3)
    assert {p.name for p in own_folder.glob("clips.*")} == {"clips.mp4", "clips.gif", "clips.png"}


@pytest.mark.golden("ckpt")
def test_without_network_one_line_tells_what_to_put_where(
    golden, server, own_folder, capsys, monkeypatch
):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SystemExit, match="2"):
        main(["--ckpt", "hf://GuanjieChen/Skip-DiT/DiT-XL-2-skip.pt"])
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "GuanjieChen/Skip-DiT/DiT-XL-2-skip.pt" in line
    assert "put it at" in line
    with pytest.raises(SystemExit, match="2"):
        main([*map(str, ("--ckpt", golden / "bare_skip.pt", "--vae", "mse", *RUN))])
    line = capsys.readouterr().err
    assert "sd-vae-ft-mse" in line
    assert "--vae none" not in line  # it was typed
    assert not list(own_folder.iterdir())


def test_an_autoencoder_that_was_not_asked_for_can_be_left_out(
    plain_latents, server, own_folder, capsys, monkeypatch
):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(decoder, "_released_with", lambda checkpoint: "mse")
    with pytest.raises(SystemExit, match="2"):
        main(["--ckpt", str(plain_latents)])
    assert "or give --vae FILE, or --vae none for latents" in capsys.readouterr().err


def test_autoencoders_are_loaded_by_their_short_names(server):
    vae, params = sd.load_vae("mse")
    pixels = sd.decode_latents(vae, params, np.zeros((1, 4, 4, 4), np.float32))
    assert pixels.shape == (1, 8, 8, 3)
    assert server.sent() == [(f"stabilityai/sd-vae-ft-mse/resolve/main/{released.VAE_FILE}", 0)]


def test_the_list_of_models_names_every_file(capsys):
    assert models.main([]) == 0
    listed = capsys.readouterr().out
    for row in released.RELEASED:
        assert row.source in listed
        assert f"{row.numbers:,}" in listed
    with pytest.raises(SystemExit, match="2"):
        models.main(["--all"])
