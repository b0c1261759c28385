"""Real and hostile files of torch: recorded outputs are reproduced, hostile files refused.

Every file of the MANIFEST.json in `ckpt` and `ckpt_hostile` is one test; what it must do, its
config and its sizes come from the manifest and from the file.
"""

import json
import re
import tarfile
from pathlib import Path

import jax.numpy as jnp
import pytest

from skipdit_jax import registry, trees
from skipdit_jax.checkpoints import CheckpointError, config_fields, fill
from skipdit_jax.weights import open_known
from tests.parity import goldens

FORWARD = 2e-5  # docs/notes.md, Goldens
MARKER = "PWNED_BY_CHECKPOINT"
TENSOR_NAME = re.compile(r"\b[a-z_]+(?:\.\w+)+\.(?:weight|bias)\b")
OUTPUTS = {
    "float32": "out",
    "float16": "out_fp16_weights_in_float32",
    "bfloat16": "out_bf16_weights_in_float32",
}


def manifest_of(source):
    if source.is_dir():
        return json.loads((source / "MANIFEST.json").read_text())
    with tarfile.open(source) as tar:
        stem = source.name.removesuffix(".tar.xz")
        return json.load(tar.extractfile(f"{stem}/MANIFEST.json"))


def pytest_generate_tests(metafunc):
    if "entry" not in metafunc.fixturenames:
        return
    folder = metafunc.function.folder
    folders = metafunc.config.getoption("--golden") or [goldens_folder(metafunc.config)]
    cases = []
    for source, label in goldens.find([folder], [Path(path) for path in folders]):
        if isinstance(source, goldens.Missing):
            cases.append(pytest.param(source, None, id=label))
            continue
        for name, entry in manifest_of(source).items():
            stem = name.removesuffix(".pt")
            cases.append(pytest.param(source, (name, entry), id=f"{label}-{stem}"))
    metafunc.parametrize(("golden", "entry"), cases, indirect=["golden"])


def goldens_folder(config):
    return config.rootpath / "tests" / "golden"


def files_of(folder):
    """Marks a test that runs once for each file of a golden folder."""

    def mark(function):
        function.folder = folder
        return function

    return mark


def load(path, num_heads=1, weights=None, **changes):
    """Everything between a path and (model, parameters, which weights they are)."""
    checkpoint = open_known(path, weights)
    fields = {**config_fields(checkpoint, num_heads), **changes}
    model = registry.build(checkpoint.family.name, fields)
    expected = registry.abstract_params(model)
    return model, fill(checkpoint, expected, vars(model.config)), checkpoint.which


def outputs(golden, name, entry):
    """{key of the recorded output: which weights it belongs to}."""
    prefix = entry["expected"].split("/")[0]
    recorded = goldens.load(golden / "expected.npz")
    if f"{prefix}/out_ema" in recorded:
        return recorded, prefix, {"out_ema": None, "out_model": "model"}
    dtype = str(open_known(golden / name).handles["x_embedder.proj.bias"].dtype)
    return recorded, prefix, {OUTPUTS[dtype]: None}


def forward(model, params, inputs):
    x, t = jnp.asarray(goldens.channel_last(inputs["x"])), jnp.asarray(inputs["t"], jnp.float32)
    y = jnp.asarray(inputs["y"], jnp.int32) if model.config.num_classes else None
    return model.apply({"params": params}, x, t, y)


@files_of("ckpt")
def test_recorded_outputs_are_reproduced(golden, entry):
    name, facts = entry
    recorded, prefix, keys = outputs(golden, name, facts)
    for key, weights in keys.items():
        model, params, _ = load(golden / name, facts["config"]["num_heads"], weights)
        got = forward(model, params, recorded.under(f"{prefix}/"))
        want = goldens.channel_last(recorded[f"{prefix}/{key}"])
        goldens.assert_close(got, want, FORWARD, f"{name} {key}")


UNCONDITIONAL = 1  # of Latte's extras


def has_labels(path):
    return any(name.startswith("y_embedder") for name in open_known(path).handles)


@files_of("ckpt")
def test_configs_are_read_off_the_files(golden, entry):
    name, facts = entry
    config = dict(facts["config"])
    want = {key: value for key, value in config.items() if key not in ("cls", "extras")}
    want["skip"] = "skip" in config["cls"]
    if config.get("extras") == UNCONDITIONAL and not has_labels(golden / name):
        want |= {"num_classes": 0, "class_dropout_prob": 0.0}
    assert config_fields(open_known(golden / name), want["num_heads"]) == want
    with pytest.raises(CheckpointError, match="num_heads"):
        config_fields(open_known(golden / name))


@files_of("ckpt")
def test_the_layout_says_which_weights_are_taken(golden, entry):
    name, facts = entry
    wrapped = "'ema'" in facts["layout"]
    assert open_known(golden / name).which == ("ema" if wrapped else "bare")


@files_of("ckpt")
def test_a_plain_model_is_no_skip_model(golden, entry):
    name, facts = entry
    if facts["config"]["cls"] != "DiT":
        return
    with pytest.raises(CheckpointError) as caught:
        load(golden / name, skip=True)
    count = facts["config"]["depth"] // 2
    parts = (
        "norms.{}.weight",
        "norms.{}.bias",
        "linears.{}.linear.weight",
        "linears.{}.linear.bias",
    )
    missing = {"skip_" + part.format(number) for part in parts for number in range(count)}
    assert set(re.findall(r"skip_[\w.]+", str(caught.value))) == missing


@pytest.mark.golden("ckpt")
def test_damage_is_noticed(golden):
    name = "bare_skip.pt"
    facts = manifest_of(golden)[name]
    recorded, prefix, keys = outputs(golden, name, facts)
    (key,) = (f"{prefix}/{key}" for key in keys)
    model, params, _ = load(golden / name, facts["config"]["num_heads"])
    inputs = recorded.under(f"{prefix}/")
    wrong = goldens.channel_last(recorded.damaged(key)[key])
    with pytest.raises(AssertionError, match="deviation"):
        goldens.assert_close(forward(model, params, inputs), wrong, FORWARD, "damaged output")
    leaves = trees.flatten(params)
    path = "skip_fusions_0/norm/scale"
    broken = trees.unflatten({**leaves, path: leaves[path] * jnp.float32(1.01)})
    want = goldens.channel_last(recorded[key])
    with pytest.raises(AssertionError, match="deviation"):
        goldens.assert_close(forward(model, broken, inputs), want, FORWARD, "damaged weight")


NAMED = (
    "missing_key",
    "missing_skip_key",
    "wrong_shape",
    "wrong_rank",
    "unexpected_key",
    "nan_value",
)


@files_of("ckpt_hostile")
def test_hostile_files_are_refused_and_nothing_is_executed(golden, entry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name, facts = entry
    stem = name.removesuffix(".pt")
    if stem == "model_only":  # harmless: its one set of weights is loaded, and said to be the model
        assert load(golden / name)[2] == "model"
        return
    with pytest.raises(CheckpointError) as caught:
        load(golden / name)
    message = str(caught.value)
    assert message.startswith(f"{golden / name}: ")
    assert len(message.splitlines()) == 1
    assert "TypeCheckError" not in message  # a slip of ours, not of the file
    assert not (tmp_path / MARKER).exists()
    assert not list(tmp_path.iterdir())
    if stem.startswith("exec_"):
        assert re.search(r"\b(\w+\.system|_*builtins?_*\.eval)\b", message)
    if stem in NAMED:
        (tensor,) = TENSOR_NAME.findall(facts["why"])
        assert tensor in message
    if stem == "wrong_shape":
        found = open_known(golden / name).handles[tensor].shape
        assert f"has shape {found}, wanted {found[::-1]}" in message
