"""train.py: the digits from a config file to weights that can be loaded, and bad input."""

import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest
from PIL import Image

import skipdit_jax as sd
from configs import digits_plain, digits_skip
from skipdit_jax import registry
from skipdit_jax.checkpoints import config_fields, fill
from skipdit_jax.checkpoints.state_dicts import Ask
from skipdit_jax.checkpoints.store import steps_in
from skipdit_jax.cli import build, train
from skipdit_jax.training.logs import read_log
from skipdit_jax.trees import flatten
from skipdit_jax.weights import open_known, open_weights

pytestmark = pytest.mark.usefixtures("compiled_once")

CONFIG = digits_skip.__file__
TINY = {
    "steps": 4,
    "batch_size": 4,
    "warmup_steps": 1,
    "log_every": 2,
    "checkpoint_every": 2,
    "sample_every": 0,
    "model.depth": 2,
    "model.hidden_size": 8,
    "model.num_heads": 2,
}


def flags_of(workdir, config=CONFIG, **changes):
    values = {**TINY, **{name.replace("__", "."): value for name, value in changes.items()}}
    overrides = [f"--config.{name}={value}" for name, value in values.items()]
    return [f"--config={config}", f"--workdir={workdir}", *overrides]


def refused(capsys, flags):
    """The one line that bad input ends with."""
    with pytest.raises(SystemExit) as caught:
        train.main(flags)
    out, err = capsys.readouterr()
    assert (caught.value.code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("train.py: error: ")
    return err


def weights(path):
    """(config fields, parameters) of a native file."""
    checkpoint = open_known(path)
    fields = config_fields(checkpoint)
    expected = registry.abstract_params(registry.build("dit", fields))
    return fields, fill(checkpoint, expected, fields)


def test_trains_saves_and_resumes_to_the_same_weights(tmp_path, capsys):
    straight, parts = tmp_path / "straight", tmp_path / "parts"
    # A cosine rate depends on the length of the run, so that is the same and the first part dies.
    assert train.main(flags_of(straight, lr_schedule="constant")) == 0
    out = capsys.readouterr().out
    _, params = weights(straight / "ema.safetensors")
    numbers = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert f"model    DiT-S/2-skip: 2 stages, 1 skips, 8x8x1, {numbers:,} parameters\n" in out
    assert "data     digits: 1442 examples, 10 classes; 4 a step, 0.0111 times each" in out
    assert f"run      {straight}: steps 0 to 4 on 1 devices\n" in out
    assert " left 0:0" in out
    assert out.endswith(f"; python sample.py --ckpt {straight}\n")
    assert train.main(flags_of(parts, lr_schedule="constant", steps=2)) == 0
    capsys.readouterr()
    assert train.main(flags_of(parts, lr_schedule="constant")) == 0
    assert f"resuming {parts} at step 2" in capsys.readouterr().out
    _, want = weights(straight / "ema.safetensors")
    averages = sd.load_checkpoint(straight / "checkpoints" / "4")[1]
    jax.tree.map(np.testing.assert_array_equal, averages, want)
    older = open_weights(straight / "checkpoints" / "2")
    assert older.metadata["training"]["step"] == 2
    assert build.open_source(straight, Ask("model")).path == straight / "checkpoints" / "4"
    raw = sd.load_checkpoint(straight, weights="model")[1]
    first = sd.load_checkpoint(straight / "checkpoints" / "2", weights="model")[1]
    assert not np.array_equal(raw["x_embedder"]["kernel"], want["x_embedder"]["kernel"])
    assert not np.array_equal(raw["x_embedder"]["kernel"], first["x_embedder"]["kernel"])
    fields, got = weights(parts / "ema.safetensors")
    jax.tree.map(np.testing.assert_array_equal, got, want)
    assert (fields["depth"], fields["hidden_size"], fields["skip"]) == (2, 8, True)
    records = read_log(parts / "metrics.jsonl")
    assert [record["step"] for record in records] == [2, 4]
    losses = [[r["loss"] for r in read_log(run / "metrics.jsonl")] for run in (straight, parts)]
    assert losses[0] == losses[1]
    assert json.loads((parts / "config.json").read_text())["model"]["depth"] == 2


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory, compiled_once):
    """The folder of a finished run, to look at or to copy."""
    folder = tmp_path_factory.mktemp("tiny") / "run"
    assert train.main(flags_of(folder)) == 0
    return folder


def test_weights_know_how_they_were_made(tiny_run):
    metadata = open_known(tiny_run / "ema.safetensors").metadata
    assert metadata["diffusion"] == digits_skip.get_config().diffusion.to_dict()
    assert metadata["training"]["step"] == TINY["steps"]
    assert metadata["training"]["config"]["seed"] == 0


def test_an_unconditional_model_learns_from_labelled_pictures(tmp_path):
    flags = flags_of(tmp_path / "run", model__num_classes=0, steps=2, warmup_steps=0)
    assert train.main(flags) == 0
    fields, got = weights(tmp_path / "run" / "ema.safetensors")
    assert fields["num_classes"] == 0
    assert "y_embedder" not in got


def test_stage_one_moves_only_what_it_names(tmp_path):
    flags = flags_of(tmp_path / "run", trainable="('^skip_fusions_',)", steps=2, ema_decay=0.0)
    assert train.main(flags) == 0
    _, got = weights(tmp_path / "run" / "ema.safetensors")
    model = registry.create_model(
        "DiT-S/2-skip",
        depth=2,
        hidden_size=8,
        num_heads=2,
        input_size=8,
        in_channels=1,
        num_classes=10,
    )
    start = flatten(registry.init_params(model, jax.random.split(jax.random.key(0))[0]))
    moved = {path for path, leaf in flatten(got).items() if (leaf != start[path]).any()}
    # The head is zero at the start, so the first gradient behind it is zero too.
    assert all(path.startswith("skip_fusions_") for path in moved)


def test_a_loss_that_is_not_finite_ends_with_code_3(tmp_path, capsys):
    flags = flags_of(tmp_path / "run", lr=1e30, clip_norm=0.0, steps=20, checkpoint_every=20)
    assert train.main(flags) == train.DIVERGED
    assert capsys.readouterr().err.startswith("train.py: step ")
    assert not (tmp_path / "run" / "ema.safetensors").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_after_its_step_and_saves(tmp_path, capsys, monkeypatch, number, code):
    show = train.Terminal.record

    def record(self, values):
        show(self, values)
        if values["step"] == 1:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(train.Terminal, "record", record)
    run, before = tmp_path / "run", signal.getsignal(signal.SIGTERM)
    assert train.main(flags_of(run, log_every=1, checkpoint_every=4)) == code
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"train.py: stopped by {number.name} after step 2 of 4, saved" in err
    assert steps_in(run / "checkpoints") == [2]
    assert (run / "ema.safetensors").is_file()
    assert signal.getsignal(signal.SIGTERM) == before
    if code == 143:
        assert train.main(flags_of(run, log_every=1)) == 0
        assert f"resuming {run} at step 2" in capsys.readouterr().out
        assert [record["step"] for record in read_log(run / "metrics.jsonl")] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model__name": "DiT-Z/2"}, "unknown model 'DiT-Z/2'"),
        ({"model__depth": 3}, "depth 3 is no multiple of 2"),
        ({"model__hidden_size": 9}, "hidden_size 9"),
        ({"diffusion__schedule": "nosuch"}, "nosuch"),
        ({"data__name": "imagenet"}, "data.name"),
        ({"data__split": "val"}, "data.split: found 'val'"),
        ({"lr": -1.0}, "lr: found -1.0"),
        ({"lr_schedule": "step"}, "lr_schedule: found 'step'"),
        ({"steps": 0}, "steps: found 0"),
        ({"steps": 2**31}, "steps: found 2147483648"),
        ({"seed": 2**32}, "seed: found 4294967296, wanted a number of at most 4294967295"),
        ({"seed": -1}, "seed: found -1"),
        ({"batch_size": 0}, "batch_size and accumulate: found 0 and 1"),
        ({"accumulate": 3}, "batch_size: 4 in 3 parts"),
        ({"timesteps": "late"}, "timesteps: found 'late'"),
        ({"remat": "all"}, "remat is 'all'"),
        ({"mesh__fsdp": 3}, "mesh: data -1 x fsdp 3 x tensor 1 does not fit 1 devices"),
        ({"mesh__data": 0}, "mesh.data: found 0"),
        ({"keep_last": 0}, "keep_last and keep_every: found 0 and 0"),
        ({"profile__start": -1}, "profile: found start -1"),
        ({"sample_every": 1}, "cache plan: branch 1"),
        ({"sample_every": 1, "sampling__cache": "M3"}, "M3"),
        ({"init__ckpt": "nosuch.pt"}, "nosuch.pt"),
        ({"init__allow_missing": "('skip_*',)"}, "without init.ckpt"),
        ({"model__num_classes": 5}, "label"),
        ({"model__in_channels": 3}, "wanted (8, 8, 3)"),
        ({"wandb": "project"}, 'pip install "skipdit_jax[wandb]"'),
        ({"warmup_steps": -1}, "warmup_steps: found -1"),
        ({"ema_decay": 1.5}, "ema_decay: found [1.5]"),
        ({"trainable": "('blocks_9',)"}, "'blocks_9' matches no parameter"),
        ({"dtype": "float8"}, "float8"),
        ({"stepz": 3}, "stepz"),
        ({"model__patch_sise": 4}, "did you mean --config.model.patch_size?"),
        ({"seed": 2**32}, "seed: found 4294967296, wanted"),
        ({"steps": "many"}, "many"),
        ({"config": "nosuch.py"}, "nosuch.py"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, capsys, changes, words):
    assert words in refused(capsys, flags_of(tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_grids_and_a_profile_are_made_while_it_trains(tmp_path):
    changes = {"sampling__cache": "", "sampling__steps": "4", "profile__start": 1}
    flags = flags_of(tmp_path / "run", sample_every=2, profile__steps=1, **changes)
    assert train.main(flags) == 0
    names = ["step_0000002.png", "step_0000004.png"]
    assert sorted(path.name for path in (tmp_path / "run" / "samples").iterdir()) == names
    with Image.open(tmp_path / "run" / "samples" / names[0]) as picture:
        assert picture.width > picture.height > 0
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    assert [path for path in (tmp_path / "run" / "profile").rglob("*") if path.is_file()]


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, tiny_run, capsys):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    want = weights(run / "ema.safetensors")[1]
    for file in (run / "checkpoints" / "4" / "params").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    capsys.readouterr()
    assert train.main(flags_of(run)) == 0
    out = capsys.readouterr().out
    assert f"skipped {run}/checkpoints/4: " in out
    assert f"resuming {run} at step 2" in out
    jax.tree.map(np.testing.assert_array_equal, weights(run / "ema.safetensors")[1], want)


def test_a_plain_model_becomes_a_skip_model_in_two_stages(tmp_path, capsys):
    """What is there is taken over, what is not is drawn; a third run changes the classes."""
    plain, skip = tmp_path / "plain", tmp_path / "skip"
    # Learning rates this small leave parameters where they were, but for the last digits.
    still = {"ema_decay": 0.0, "lr": 1e-12, "warmup_steps": 0, "steps": 1}
    assert train.main(flags_of(plain, model__name="DiT-S/2", ema_decay=0.0)) == 0
    flags = flags_of(skip, init__ckpt=plain, init__allow_missing="('skip_*',)", **still)
    assert train.main(flags) == 0
    assert f"starting from {plain}/ema.safetensors" in capsys.readouterr().out
    start, got = (flatten(weights(run / "ema.safetensors")[1]) for run in (plain, skip))
    assert {path.split("_")[0] for path in got.keys() - start.keys()} == {"skip"}
    for path, leaf in start.items():
        np.testing.assert_allclose(got[path], leaf, atol=1e-9)
    finer = tmp_path / "finer"
    flags = flags_of(finer, init__ckpt=skip, model__num_classes=12, **still)
    assert train.main(flags) == 0
    assert "the checkpoint has 10 classes, the model 12" in capsys.readouterr().out
    tuned = flatten(weights(finer / "ema.safetensors")[1])
    assert tuned["y_embedder/embedding"].shape == (13, TINY["model.hidden_size"])
    for path, leaf in got.items():
        if not path.startswith("y_embedder"):
            np.testing.assert_allclose(tuned[path], leaf, atol=1e-9)


def test_bfloat16_and_remat_follow_the_float32_curve(tmp_path):
    """Over twelve steps of the real digits the losses stay within two in a hundred."""
    curves = []
    for name, changes in {
        "float32": {},
        "remat": {"remat": "blocks"},
        "bfloat16": {"dtype": "bfloat16"},
    }.items():
        flags = flags_of(tmp_path / name, steps=12, log_every=1, checkpoint_every=12, **changes)
        assert train.main(flags) == 0
        curves.append([record["loss"] for record in read_log(tmp_path / name / "metrics.jsonl")])
    full, remat, half = map(np.array, curves)
    np.testing.assert_allclose(remat, full, rtol=1e-5)
    np.testing.assert_allclose(half, full, rtol=2e-2)
    assert not np.array_equal(half, full)


def test_flags_are_asked_for(capsys):
    assert "--workdir" in refused(capsys, [f"--config={CONFIG}"])
    assert "--config" in refused(capsys, ["--workdir=run"])
    assert "extra" in refused(capsys, [*flags_of("run"), "extra"])
    assert "nosuch" in refused(capsys, ["--nosuch=1"])
    assert "did you mean --config.seed?" in refused(capsys, [*flags_of("run"), "--seed=3"])


@pytest.mark.parametrize(("name", "value"), [("model__hidden_size", 16), ("seed", 1)])
def test_a_run_folder_of_another_config_is_refused(tmp_path, tiny_run, capsys, name, value):
    shutil.copytree(tiny_run, tmp_path / "run")
    before = (tmp_path / "run" / "config.json").read_text()
    capsys.readouterr()
    err = refused(capsys, flags_of(tmp_path / "run", **{name: value}))
    assert f"{name.replace('__', '.')} was" in err
    assert (tmp_path / "run" / "config.json").read_text() == before


def test_a_file_where_the_run_folder_should_be_is_named(tmp_path, capsys):
    (tmp_path / "run").write_text("")
    assert "run" in refused(capsys, flags_of(tmp_path / "run"))


def test_config_files_with_wrong_names_are_refused(tmp_path, capsys):
    lines = "from configs.digits_skip import get_config as base\ndef get_config():\n"
    lines += (
        "  config = base()\n  config.learning_rate = 1.0\n  del config.steps\n  return config\n"
    )
    (tmp_path / "config.py").write_text(lines)
    flags = [f"--config={tmp_path / 'config.py'}", f"--workdir={tmp_path / 'run'}"]
    err = refused(capsys, flags)
    assert "missing ['steps']" in err
    assert "unknown ['learning_rate']" in err


def test_help_says_how(capsys):
    assert train.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "--config FILE.py --workdir RUN" in out
    assert "Shipped configs: cifar10_plain, cifar10_skip, digits_plain, digits_skip" in out


@pytest.mark.parametrize("flags", [["--config", "digits_plain"], ["--config=digits_plain"]])
def test_a_shipped_config_goes_by_its_name(flags):
    command = train.parse([*flags, "--config.batch_size=4", "--workdir", "run"])
    assert (command.config.model.name, command.config.batch_size) == ("DiT-S/2", 4)


def test_a_name_that_is_not_shipped_is_refused(capsys):
    assert "one of cifar10_plain, cifar10_skip, digits_plain, digits_skip, " in refused(
        capsys, flags_of("run", "nosuch")
    )


def test_the_twins_differ_by_the_skips_alone():
    skip, plain = digits_skip.get_config(), digits_plain.get_config()
    assert (skip.model.name, plain.model.name) == ("DiT-S/2-skip", "DiT-S/2")
    plain.model.name = skip.model.name
    assert plain.to_dict() | {"sampling": None} == skip.to_dict() | {"sampling": None}
