"""What a file is: which weights, which family, which config; told by content, never by name."""

import json

import numpy as np
import pytest

from skipdit_jax.checkpoints.arrays import ArraySpec
from skipdit_jax.checkpoints.errors import CheckpointError
from skipdit_jax.checkpoints.load import config_fields
from skipdit_jax.checkpoints.safetensors_files import write_safetensors_file
from skipdit_jax.weights import open_known
from tests.checkpoints.states import CONFIG, torch_state, write_state, write_wrapped
from tests.checkpoints.torch_makers import dictionary, plain, tensor, write_zip

NUMBER = np.ones(1, np.float32)


def first(checkpoint):
    return float(checkpoint.handles["x_embedder.proj.bias"].read()[0])


@pytest.fixture
def groups():
    states = {"model": torch_state(True, 1), "ema": torch_state(True, 2)}
    for number, arrays in enumerate(states.values()):
        arrays["x_embedder.proj.bias"][0] = number
    return states  # the telltale number is 0 in model, 1 in ema


def test_a_bare_state_dict_is_taken_whatever_is_asked(tmp_path):
    path = write_state(tmp_path / "x.pt", torch_state(True))
    for weights in (None, "ema", "model"):
        checkpoint = open_known(path, weights)
        assert checkpoint.which == "bare"
        assert checkpoint.family.name == "dit"
        assert checkpoint.metadata == {}


@pytest.mark.parametrize(
    ("held", "asked", "which", "number"),
    [
        (("model", "ema"), None, "ema", 1),
        (("model", "ema"), "ema", "ema", 1),
        (("model", "ema"), "model", "model", 0),
        (("ema",), None, "ema", 1),
        (("model",), None, "model", 0),
        (("model",), "model", "model", 0),
    ],
)
def test_the_weights_asked_for_are_taken(tmp_path, groups, held, asked, which, number):
    path = write_wrapped(tmp_path / "x.pt", {key: groups[key] for key in held})
    checkpoint = open_known(path, asked)
    assert (checkpoint.which, first(checkpoint)) == (which, number)


@pytest.mark.parametrize(("held", "asked"), [("model", "ema"), ("ema", "model")])
def test_weights_that_are_not_there_are_told(tmp_path, groups, held, asked):
    path = write_wrapped(tmp_path / "x.pt", {held: groups[held]})
    with pytest.raises(CheckpointError, match=f"no '{asked}' weights, only {held}"):
        open_known(path, asked)


def test_other_choices_of_weights_are_refused(tmp_path):
    with pytest.raises(ValueError, match="'best'"):
        open_known(tmp_path / "x.pt", "best")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "module.module."])
def test_prefixes_of_wrappers_are_stripped(tmp_path, prefix):
    arrays = torch_state(True)
    path = write_state(tmp_path / "x.pt", {prefix + name: a for name, a in arrays.items()})
    assert open_known(path).handles.keys() == arrays.keys()


def test_names_that_become_one_are_refused(tmp_path):
    arrays = torch_state(False)
    arrays["module.pos_embed"] = arrays["pos_embed"]
    with pytest.raises(CheckpointError, match="prefix"):
        open_known(write_state(tmp_path / "x.pt", arrays))


OTHER_FAMILIES = {
    "T5 text encoder": ["shared.weight", "encoder.block.0.layer.0.SelfAttention.q.weight"],
    "BERT text encoder": ["embeddings.word_embeddings.weight"],
}


@pytest.mark.parametrize("label", OTHER_FAMILIES)
def test_other_families_are_told_by_their_names(tmp_path, label):
    path = write_state(tmp_path / "DiT-XL-2.pt", dict.fromkeys(OTHER_FAMILIES[label], NUMBER))
    with pytest.raises(CheckpointError, match=f"is a {label} checkpoint; this version reads DiT"):
        open_known(path)


def test_an_unknown_state_dict_shows_some_of_its_names(tmp_path):
    path = write_state(tmp_path / "x.pt", {"layer1.0.conv1.weight": NUMBER})
    with pytest.raises(CheckpointError, match=r"no known family \(it has layer1\.0\.conv1\.weight"):
        open_known(path)


CONTENTS = {
    "a list": plain([1, 2]),
    "a number": plain(3),
    "None": plain(None),
    "an empty dict": plain({}),
    "texts": plain({"a": "b"}),
    "an empty ema": dictionary({"ema": plain({})}),
    "ema of texts": dictionary({"ema": plain({"w": "x"})}),
    "a tensor without a name": dictionary({3: tensor("0", (1,))}),
    "an endless name": dictionary({"x" * 5000: tensor("0", (1,))}),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_what_is_no_state_dict_is_refused(tmp_path, case):
    path = write_zip(tmp_path / "x.pt", CONTENTS[case], [("0", NUMBER.tobytes())])
    with pytest.raises(CheckpointError, match=r"wanted a dict|is no state dict") as caught:
        open_known(path)
    assert len(str(caught.value)) < 600


def test_a_name_cannot_break_the_line(tmp_path):
    path = write_state(tmp_path / "x.pt", {"two\nlines\x1b[2J": NUMBER})
    with pytest.raises(CheckpointError) as caught:
        open_known(path)
    assert r"two\nlines\x1b[2J" in str(caught.value)


def write_safetensors(path, arrays, metadata):
    specs = {k: ArraySpec(a.shape, a.dtype, lambda a=a: a) for k, a in arrays.items()}
    write_safetensors_file(path, specs, metadata)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_a_state_dict_in_safetensors_is_a_state_dict(tmp_path, suffix):
    arrays = {f"module.{key}": value for key, value in torch_state(True).items()}
    path = write_safetensors(tmp_path / f"x{suffix}", arrays, {"format": "pt"})
    checkpoint = open_known(path)
    assert (checkpoint.which, checkpoint.family.name) == ("bare", "dit")
    assert checkpoint.handles.keys() == torch_state(True).keys()


def native(**changes):
    config = {"format": "skipdit_jax", "version": 1, "family": "dit", "model": CONFIG, **changes}
    return {"format": "skipdit_jax", "config": json.dumps(config)}


def test_a_native_file_brings_its_config(tmp_path):
    path = write_safetensors(tmp_path / "x.safetensors", {"a": NUMBER}, native(diffusion={"a": 1}))
    checkpoint = open_known(path)
    assert checkpoint.which == "native"
    assert config_fields(checkpoint) == CONFIG
    assert checkpoint.metadata["diffusion"] == {"a": 1}


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"format": "skipdit_jax"}, "no config"),
        ({"format": "skipdit_jax", "config": "{"}, "JSONDecodeError"),
        (native(version=2), "version 2"),
        (native(model=3), "no config"),
        (native(family="mochi"), "is a mochi checkpoint"),
        (native(family=None), "no family"),
    ],
)
def test_native_metadata_that_cannot_be_used_is_told(tmp_path, metadata, reason):
    path = write_safetensors(tmp_path / "x.safetensors", {"a": NUMBER}, metadata)
    with pytest.raises(CheckpointError, match=reason):
        open_known(path)


def test_heads_are_taken_as_given_and_otherwise_asked_for(tmp_path):
    checkpoint = open_known(write_state(tmp_path / "x.pt", torch_state(True)))
    assert config_fields(checkpoint, num_heads=2) == {
        **CONFIG,
        "skip": True,
        "mlp_ratio": 4.0,
        "learn_sigma": True,
        "class_dropout_prob": 0.1,
    }
    with pytest.raises(CheckpointError, match=r"x\.pt: .*num_heads"):
        config_fields(checkpoint)


def test_the_line_of_files_that_are_none(tmp_path):
    for content in (b"", b"hello", b"version https://git-lfs.github.com/spec/v1\n" * 3, b"\x80"):
        path = tmp_path / "x.pt"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"x\.pt: ") as caught:
            open_known(path)
        assert len(str(caught.value).splitlines()) == 1
