"""Bad input to sample.py: one line, exit code 2, nothing written, nothing compiled."""

import dataclasses
import json
import shutil
import tempfile

import numpy as np
import pytest

from skipdit_jax import registry
from skipdit_jax.checkpoints import save_native
from skipdit_jax.cli import compare, sample
from skipdit_jax.cli.runner import Result
from skipdit_jax.cli.sample import main
from tests.cli import makers


@pytest.fixture
def refused(own_folder, capsys, monkeypatch):
    """Runs flags that must be refused and returns the one line."""

    def never(*_args, **_options):
        pytest.fail("something ran before the input was checked")

    monkeypatch.setattr(sample, "run", never)
    monkeypatch.setattr(compare, "measure", never)

    def run(*flags):
        before = sorted(own_folder.iterdir())
        with pytest.raises(SystemExit) as stopped:
            main([str(flag) for flag in flags])
        told = capsys.readouterr()
        assert stopped.value.code == 2
        assert told.out == ""
        assert told.err.startswith("sample.py: error: ")
        assert told.err.count("\n") == 1
        assert told.err.endswith("\n")
        assert "Traceback" not in told.err
        assert sorted(own_folder.iterdir()) == before
        return told.err

    return run


FLAGS = {
    "unknown model": (["--model", "DiT-M/2"], "DiT-XL/2-skip, "),
    "unknown patch": (["--model", "DiT-XL/3"], "DiT-XL/2-skip, "),
    "unknown flag": (["--frobnicate"], "--frobnicate"),
    "shortened flag": (["--see", "1"], "--see"),
    "unknown sampler": (["--sampler", "heun"], "'heun', wanted one of ddpm, ddim, dpm++"),
    "unknown weights": (["--weights", "best"], "'ema', 'model'"),
    "unknown dtype": (["--dtype", "float8"], "'float32', 'bfloat16'"),
    "unknown driver": (["--driver", "while"], "'scan', 'nested', 'unrolled'"),
    "unknown attention": (["--attention", "flash"], "'auto', 'xla', 'cudnn', 'fold'"),
    "missing value": (["--seed"], "--seed"),
    "seed no number": (["--seed", "one"], "--seed"),
    "seed too large": (["--seed", str(2**32)], "4294967295"),
    "labels too large": (["--class-labels", "3", "10"], "[10] outside 0..9"),
    "labels negative": (["--class-labels", "-1"], "[-1] outside 0..9"),
    "labels huge": (["--class-labels", "9" * 40], "outside 0..9"),
    "labels no numbers": (["--class-labels", "cat"], "whole numbers"),
    "labels none": (["--class-labels", ","], "none given"),
    "no steps": (["--num-sampling-steps", "0"], "1..1000"),
    "steps above 1000": (["--num-sampling-steps", "1001"], "1..1000"),
    "steps negative": (["--num-sampling-steps", "-5"], "'-5'"),
    "steps blank": (["--num-sampling-steps", " "], "1..1000"),
    "steps junk": (["--num-sampling-steps", "many"], "'many'"),
    "steps ddim junk": (["--num-sampling-steps", "ddim"], "ddimN"),
    "steps of a section": (["--num-sampling-steps", "900,900"], "section 0"),
    "batch of none": (["--batch-size", "0"], "--batch-size"),
    "samples of none": (["--num-samples", "0"], "--num-samples"),
    "cfg no number": (["--cfg-scale", "much"], "--cfg-scale"),
    "cfg negative": (["--cfg-scale", "-1"], "scale is -1"),
    "cfg nan": (["--cfg-scale", "nan"], "scale is nan"),
    "interval reversed": (["--guidance-interval", "700", "100"], "ends before it begins"),
    "rescale outside": (["--cfg-rescale", "2"], "rescale is 2.0, wanted a number from 0 to 1"),
    "rescale alone": (["--cfg-rescale", "0.5", "--cfg-scale", "1"], "--cfg-rescale: guidance is 1"),
    "interval half": (["--guidance-interval", "700"], "expected 2 arguments"),
    "interval nan": (["--guidance-interval", "nan", "100"], "interval is (nan, 100.0)"),
    "interval of no guidance": (
        ["--guidance-interval", "1", "9", "--cfg-scale", "1"],
        "guidance is 1, wanted above 1",
    ),
    "eta of ddpm": (["--eta", "0.5"], "ddim"),
    "eta above 1": (["--sampler", "ddim", "--eta", "1.5"], "0 to 1"),
    "cache N0": (["--cache", "N0"], "N is 0"),
    "cache N0 whole": (["--cache", "N0-1000-20"], "N is 0"),
    "cache reversed": (["--cache", "N3-20-1000"], "stop is 1000"),
    "cache junk": (["--cache", "fast"], "N3-1000-20"),
    "cache half": (["--cache", "N3-1000"], "N3-1000-20"),
    "cache step 0": (["--cache-step", "0"], "N is 0"),
    "cache twice": (["--cache", "N3", "--cache-step", "2"], "names N already"),
    "step of no cache": (["--cache", "none", "--cache-step", "2"], "no cache"),
    "branch of no cache": (["--cache", "none", "--cache-at-branch", "1"], "no cache"),
    "branch 0": (["--cache-at-branch", "0"], "branch is 0"),
    "branch half the blocks": (["--cache-at-branch", "2"], "1 <= branch < 2"),
    "branch beyond": (["--cache-at-branch", "7"], "1 <= branch < 2"),
    "image size of a fraction of a patch": (
        ["--image-size", "5"],
        "--image-size 5: wanted a multiple of 2 (patches of 2 pixels), such as 4",
    ),
    "image size of another model": (["--image-size", "8"], "input_size 4, wanted input_size 8"),
    "image size 0": (["--image-size", "0"], "--image-size"),
    "classes of another model": (["--num-classes", "7"], "num_classes 10, wanted num_classes 7"),
    "heads of another model": (["--num-heads", "4"], "num_heads 2, wanted num_heads 4"),
    "model of another checkpoint": (["--model", "DiT-S/2-skip"], "hidden_size 384"),
    "raw weights of an averaged file": (["--weights", "model"], "one set of weights"),
    "out without suffix": (["--out", "picture"], "ends in .png"),
    "out of another kind": (["--out", "picture.gif"], "ends in .png"),
    "out in a file": (["--out", "/dev/null/a.png"], "cannot write into /dev/null"),
    "npz in a file": (["--npz", "/dev/null/deep/a.npz"], "cannot write into /dev/null/deep"),
    "out too long": (["--out", "x" * 300 + ".png"], "File name too long"),
    "empty value": (["--vae", ""], "--vae: found an empty value"),
    "empty value behind a sign": (["--model="], "--model: found an empty value"),
    "samples beyond an index": (["--num-samples", "99999999999"], "is above 2147483647"),
    "seed of 20 digits": (["--seed", "9" * 20], "is above 4294967295"),
    "comparison of no cache": (["--compare", "--cache", "none"], "nothing to compare"),
    "npz over out": (["--npz", "a.png", "--out", "a.png"], "both a.png"),
    "npz is a folder": (["--npz", ".."], "is a folder"),
}


@pytest.mark.parametrize("case", FLAGS)
def test_flags(refused, small, case):
    flags, words = FLAGS[case]
    assert words in refused("--ckpt", small, *flags)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model", "DiT-XL/2-skip"], "--ckpt"),
        (["--model", "DiT-S/2", "--cache", "N3-1000-20"], "needs long skips"),
        (["--model", "DiT-S/2-skip", "--cache", "N3", "--cache-at-branch", "6"], "branch < 6"),
        (["--model", "DiT-cache-0"], "N is 0"),
        (["--model", "DiT-S/2", "--compare"], "-skip"),
        (
            ["--model", "DiT-S/2", "--image-size", "100"],
            "multiple of 16 (patches of 2 latents of",
        ),
        (["--model", "DiT-S/4", "--image-size", "264"], "264: wanted a multiple of 32"),
        (["--model", "DiT-S/2", "--height", "64", "--width", "72"], "--width 72: wanted a mult"),
        (["--model", "DiT-S/2", "--height", "8", "--width", "32"], "--height 8: wanted a multi"),
        (["--model", "DiT-S/2", "--class-labels", "1000"], "outside 0..999"),
        (["--model", "DiT-S/2", "--num-classes", "10", "--class-labels", "10"], "outside 0..9"),
        (["--model", "DiT-S/2", "--num-classes", "0", "--class-labels", "1"], "unconditional"),
        (["--model", "DiT-S/2", "--num-classes", "0", "--cfg-scale", "4"], "label dropout"),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else None,
)
def test_a_model_is_judged_before_its_weights_are_missed(refused, flags, words):
    assert words in refused(*flags)


def test_skip_cache_needs_skips_in_the_checkpoint(refused, plain_latents):
    assert "needs long skips" in refused("--ckpt", plain_latents, "--cache", "N3-1000-20")
    assert "--compare" in refused("--ckpt", plain_latents, "--compare")


def test_the_checkpoint_is_not_written_over(refused, small):
    assert "is read by this run" in refused("--ckpt", small, "--npz", small)


def test_pixels_of_a_latent_are_those_of_the_family(refused, plain_latents, monkeypatch):
    family = dataclasses.replace(registry.FAMILIES["dit"], pixels_per_latent=4)
    monkeypatch.setitem(registry.FAMILIES, "dit", family)
    assert "of 8 (patches of 2 latents of 4" in refused("--ckpt", plain_latents, "--image-size", 36)
    assert "wanted input_size 8" in refused("--ckpt", plain_latents, "--image-size", 32)


def test_checkpoint_missing(refused):
    assert "none.pt" in refused("--ckpt", "none.pt")


def test_checkpoint_truncated(refused, small, tmp_path):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(small.read_bytes()[: small.stat().st_size // 2])
    assert "cut.safetensors" in refused("--ckpt", cut)


def test_checkpoint_of_text(refused, tmp_path):
    text = tmp_path / "notes.pt"
    text.write_text("dear diary")
    assert "notes.pt" in refused("--ckpt", text)


def test_checkpoint_is_a_folder_without_a_run(refused, tmp_path):
    assert "run folder" in refused("--ckpt", tmp_path)


def test_checkpoint_of_another_family(refused, tmp_path):
    other = tmp_path / "text.safetensors"
    save_native(other, makers.random_params(makers.small_model()), makers.SMALL, family="mochi")
    assert "mochi" in refused("--ckpt", other)


def test_checkpoint_of_other_shapes_names_them_all(refused, tmp_path):
    torch_file = makers.save_small(tmp_path / "t.pt")
    line = refused("--model", "DiT-S/2-skip", "--ckpt", torch_file)
    assert "blocks.3.mlp.fc2.bias has shape (16,), wanted (384,)" in line
    assert "blocks.11.mlp.fc2.bias" in line


def test_state_dict_of_unknown_heads_asks_for_them(refused, tmp_path):
    assert "num_heads" in refused("--ckpt", makers.save_small(tmp_path / "t.pt"))


@pytest.mark.golden("ckpt_hostile")
def test_hostile_files(refused, golden, own_folder):
    manifest = json.loads((golden / "MANIFEST.json").read_text())
    wanted = {name: entry for name, entry in manifest.items() if entry["expect"] == "refuse"}
    assert len(wanted) > 5
    for name in wanted:
        copy = own_folder / "hostile.pt"
        shutil.copy(golden / name, copy)
        assert "hostile.pt" in refused("--ckpt", copy, "--num-heads", 3), name
    assert [p.name for p in own_folder.iterdir()] == ["hostile.pt"]


@pytest.mark.parametrize(
    "metadata",
    [
        {"sampling": {"colour": "blue"}},
        {"sampling": {"steps": "lots"}},
        {"sampling": {"guidance": "strong"}},
        {"sampling": {"cache": "N0"}},
        {"sampling": {"cache": 3}},
        {"sampling": {"method": "heun"}},
        {"sampling": {"num_samples": 0}},
        {"sampling": [1]},
        {"diffusion": {"schedule": "quadratic"}},
        {"diffusion": {"num_timesteps": "many"}},
        {"diffusion": "linear"},
    ],
    ids=str,
)
def test_metadata_that_means_nothing(refused, tmp_path, metadata):
    path = makers.save_small(tmp_path / "odd.safetensors", metadata)
    (section,) = metadata
    line = refused("--ckpt", path)
    assert "odd.safetensors" in line or section in line


def test_folder_that_cannot_be_written(refused, small, monkeypatch):
    def read_only(**_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    assert "cannot write into" in refused("--ckpt", small)


def test_a_disk_that_fills_up_is_told_in_one_line(small, own_folder, capsys, monkeypatch):
    def full_disk(*_args):
        raise OSError(28, "No space left on device")

    drawn = Result(np.zeros((10, 4, 4, 1), np.float32), 1.0, 1.0)
    monkeypatch.setattr(sample, "run", lambda *_args: drawn)
    monkeypatch.setattr(sample, "save_picture", full_disk)
    with pytest.raises(SystemExit, match="2"):
        main(["--ckpt", str(small)])
    assert capsys.readouterr().err == "sample.py: error: [Errno 28] No space left on device\n"
    assert not list(own_folder.iterdir())
