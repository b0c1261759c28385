"""convert on the command line: what it prints, what it writes, what it refuses."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax import weights
from skipdit_jax.checkpoints import save_native
from skipdit_jax.cli import convert
from skipdit_jax.cli.convert import main
from skipdit_jax.cli.convert_table import columns
from skipdit_jax.trees import flatten
from skipdit_jax.weights import RUN_WEIGHTS, open_known
from tests.checkpoints.conversions import arrays_of, held, native, other_weights
from tests.checkpoints.states import torch_state, write_state, write_wrapped
from tests.cli import makers
from tests.encoders.tiny import make

ROOT = Path(__file__).parents[2]
HEADS = ("--num-heads", 2)
WIDE = {"block_out_channels": (32, 32), "norm_num_groups": 32}  # as the command line takes groups


def run(*flags):
    return main([str(flag) for flag in flags])


@pytest.fixture
def training(tmp_path):
    """A training checkpoint: {model, ema, opt, args}, as far as anyone reads it."""
    groups = {"model": other_weights(torch_state(True)), "ema": torch_state(True)}
    return write_wrapped(tmp_path / "train.pt", {**groups, "opt": {}, "a\x1b[2J": {}})


def same(got, want):
    got, want = flatten(got), flatten(want)
    assert got.keys() == want.keys()
    return all(np.asarray(got[p]).tobytes() == np.asarray(want[p]).tobytes() for p in want)


def test_a_training_checkpoint_becomes_a_file_that_needs_no_flags(training, own_folder, capsys):
    assert run(training, "dit.safetensors", *HEADS) == 0
    assert [path.name for path in own_folder.iterdir()] == ["dit.safetensors"]
    model, params = sd.load_checkpoint("dit.safetensors")
    wanted, from_torch = sd.load_checkpoint(training, num_heads=2)
    assert model.config == wanted.config
    assert same(params, from_torch)
    told = capsys.readouterr()
    assert told.err == ""  # no bar in a log file
    assert "left     model, opt, a\\x1b[2J: not taken, not read" in told.out
    assert "tables   pos_embed: not stored" in told.out
    assert "model    DiT, Skip-DiT: input_size 4, patch_size 2," in told.out
    count = sum(array.size for array in torch_state(True).values())
    assert f"{len(torch_state(True))} tensors, {count:,} parameters" in told.out


@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
def test_the_table_has_every_tensor_with_both_names(training, capsys, flags):
    assert run(training, "x.safetensors", *HEADS, "--dtype", "bfloat16", *flags) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines]
    found = {row[0]: row[1:] for row in rows if len(row) >= 4}
    for name, array in torch_state(True).items():
        assert found[name][:2] == ["x".join(map(str, array.shape)), "float32"]
    assert found["blocks.0.mlp.fc1.weight"][2:] == ["blocks_0/mlp/fc1/kernel", "8x32", "bfloat16"]
    assert found["pos_embed"][2:] == ["(not stored)"]


def test_a_dry_run_writes_nothing_and_a_bad_file_is_told(training, own_folder, capsys):
    assert run(training, "x.pt", *HEADS, "--dry-run") == 0
    assert "to write (dry run)" in capsys.readouterr().out
    assert not list(own_folder.iterdir())
    broken = write_state(
        training.with_name("broken.pt"), {**torch_state(True), "more": np.ones(1, np.float32)}
    )
    with pytest.raises(SystemExit, match="2"):
        run(broken, "x.pt", *HEADS, "--dry-run")
    assert "1 surplus: more" in capsys.readouterr().err


def test_a_watcher_sees_a_bar(training, capsys, monkeypatch):
    shown = []
    monkeypatch.setattr(convert.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(convert.StepBar, "advance", lambda *_: shown.append(1))
    assert run(training, "x.safetensors", *HEADS) == 0
    assert len(shown) == len(torch_state(True)) - 1  # the table is not stored
    assert "tensors" in capsys.readouterr().err


@pytest.mark.parametrize("weights", ["ema", "model"])
def test_the_weights_asked_for_are_taken(training, weights):
    assert run(training, "x.pth", *HEADS, "--weights", weights) == 0
    arrays = torch_state(True)
    wanted = arrays if weights == "ema" else other_weights(arrays)
    got = held(Path("x.pth"))
    assert {n: a.tobytes() for n, a in got.items()} == {n: a.tobytes() for n, a in wanted.items()}


def test_torch_loads_what_comes_of_a_run_folder(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed: nothing to read with")
    (tmp_path / "run").mkdir()
    native(tmp_path / "run" / RUN_WEIGHTS, arrays_of("dit"))
    assert run(tmp_path / "run", "x.bin") == 0
    state = torch.load("x.bin", weights_only=True)
    assert state.keys() == arrays_of("dit").keys()
    for name, array in arrays_of("dit").items():
        assert state[name].numpy().tobytes() == array.tobytes(), name


@pytest.mark.parametrize("family", ["vae", "vae_temporal"])
def test_autoencoders_carry_what_no_weights_tell(tmp_path, capsys, family):
    vae, params = make(family, **WIDE)
    weights.export_vae(tmp_path / "vae.bin", params, vae)
    assert run(tmp_path / "vae.bin", "vae.safetensors") == 0
    assert "norm_num_groups 32, scaling_factor 0.18215: taken as" in capsys.readouterr().out
    assert open_known("vae.safetensors").metadata["model"]["norm_num_groups"] == 32
    read, back = weights.load_vae("vae.safetensors")
    assert read.config == vae.config
    assert same(back, params)


def test_a_clip_model_goes_there_and_back(tmp_path):
    source = write_state(tmp_path / "x.pt", arrays_of("latte"))
    assert run(source, "x.safetensors", *HEADS) == 0
    assert run("x.safetensors", "back.pt") == 0
    assert {n: a.tobytes() for n, a in held(Path("back.pt")).items()} == {
        n: a.tobytes() for n, a in arrays_of("latte").items()
    }


@pytest.mark.parametrize(
    ("dtype", "param_dtype"),
    [("float32", "float32"), ("bfloat16", "bfloat16"), ("float16", "float32")],
)
def test_the_file_states_the_type_that_a_model_can_have(training, dtype, param_dtype):
    assert run(training, "x.safetensors", *HEADS, "--dtype", dtype) == 0
    assert {array.dtype.name for array in held(Path("x.safetensors")).values()} == {dtype}
    model, params = sd.load_checkpoint("x.safetensors")
    assert model.config.param_dtype == param_dtype
    assert {leaf.dtype.name for leaf in flatten(params).values()} == {param_dtype}


def test_what_a_native_file_says_is_kept_or_its_loss_is_told(small, capsys):
    assert run(small, "x.safetensors", "--to", "native") == 0
    assert "metadata diffusion, sampling: carried over" in capsys.readouterr().out
    kept, before = (open_known(path).metadata for path in ("x.safetensors", small))
    assert kept.pop("converted_from") == {"file": "small.safetensors", "weights": "native"}
    assert kept == before
    assert run(small, "x.pt") == 0
    assert "metadata diffusion, sampling: left out" in capsys.readouterr().out


def test_the_module_runs_as_a_program(training, tmp_path):
    command = [
        sys.executable,
        "-m",
        "skipdit_jax.cli.convert",
        training,
        tmp_path / "x.safetensors",
    ]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    options = {"cwd": ROOT, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run([*command, "--num-heads", "2"], **options, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "x.safetensors").is_file()
    done = subprocess.run([*command, "--num-heads", "3"], **options, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


@pytest.fixture
def refused(own_folder, capsys):
    """Runs flags that must be refused and returns the one line."""

    def run_refused(*flags):
        before = {path: path.read_bytes() for path in own_folder.iterdir() if path.is_file()}
        with pytest.raises(SystemExit) as stopped:
            run(*flags)
        told = capsys.readouterr()
        assert stopped.value.code == 2
        assert told.err.startswith("convert: error: ")
        assert told.err.count("\n") == 1
        after = {path: path.read_bytes() for path in own_folder.iterdir() if path.is_file()}
        assert after == before
        return told.err

    return run_refused


FLAGS = {
    "unknown ending": (["y.ckpt"], "y.ckpt: ends in '.ckpt'"),
    "native in a .pt": (["y.pt", "--to", "native"], "a native file ends in .safetensors"),
    "no folder": (["/dev/null/y.pt"], "TARGET /dev/null/y.pt: cannot write into /dev/null"),
    "unknown weights": (["y.pt", "--weights", "best"], "'ema', 'model'"),
    "unknown type": (["y.pt", "--dtype", "int8"], "'float32', 'bfloat16', 'float16'"),
    "unknown layout": (["y.pt", "--to", "onnx"], "'native', 'torch'"),
    "unknown flag": (["y.pt", "--frobnicate"], "--frobnicate"),
    "no heads": (["y.pt", "--num-heads", "0"], "--num-heads"),
    "impossible heads": (["y.pt", "--num-heads", "3"], "not divisible by num_heads 3"),
    "no target": ([], "TARGET"),
}


@pytest.mark.parametrize("case", FLAGS)
def test_flags(refused, training, case):
    flags, words = FLAGS[case]
    heads = () if "--num-heads" in flags else HEADS
    assert words in refused(training, *flags, *heads)


def test_targets(refused, training, own_folder):
    (own_folder / "folder.pt").mkdir()
    assert "folder.pt: is a folder" in refused(training, "folder.pt", *HEADS)
    assert "train.pt: is the source itself" in refused(training, training, *HEADS)


def test_sources(refused, training, small, tmp_path):
    assert "none.pt" in refused("none.pt", "y.pt")
    (tmp_path / "empty").mkdir()
    assert "wanted a run folder" in refused(tmp_path / "empty", "y.pt")
    assert "num_heads" in refused(training, "y.safetensors")
    assert "one set of weights" in refused(small, "y.pt", "--weights", "model")
    assert "has num_heads 2, wanted num_heads 4" in refused(small, "y.pt", "--num-heads", 4)
    whole = training.read_bytes()
    training.write_bytes(whole[: len(whole) // 2])
    assert "train.pt" in refused(training, "y.pt", *HEADS)
    save_native(tmp_path / "m.safetensors", {"a": np.ones(1)}, makers.SMALL, family="mochi")
    assert "mochi" in refused(tmp_path / "m.safetensors", "y.pt")


def test_an_autoencoder_has_no_heads(refused, tmp_path):
    source = write_state(tmp_path / "vae.bin", arrays_of("vae"))
    assert "holds a AutoencoderKL model, wanted none" in refused(source, "y.pt", *HEADS)


@pytest.mark.parametrize("number", [7e4, np.nan])
def test_numbers_that_cannot_be_written_are_found_on_the_way(refused, tmp_path, number):
    arrays = torch_state(True)
    arrays["skip_norms.0.bias"][1] = number
    source = write_state(tmp_path / "x.pt", arrays)
    Path("y.pt").write_bytes(b"old")
    assert "skip_norms.0.bias holds" in refused(source, "y.pt", *HEADS, "--dtype", "float16")
    assert Path("y.pt").read_bytes() == b"old"


@pytest.mark.golden("ckpt_hostile")
def test_hostile_files(refused, golden, own_folder):
    manifest = json.loads((golden / "MANIFEST.json").read_text())
    wanted = [name for name, entry in manifest.items() if entry["expect"] == "refuse"]
    assert len(wanted) > 5
    for name in wanted:
        copy = own_folder / "hostile.pt"
        shutil.copy(golden / name, copy)
        assert "hostile.pt" in refused(copy, "y.safetensors", "--num-heads", 3), name


def test_columns_are_as_wide_as_their_widest_cell():
    lines = columns([("name", "", "x"), ("n", "10", "")])
    assert lines == ["name      x", "n     10"]
