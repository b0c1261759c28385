"""Checkpoints of PixArt and LatteT2V: every name of the released ones, and round trips."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import skipdit_jax as sd
from skipdit_jax import registry
from skipdit_jax.checkpoints import CheckpointError, hunyuan_original, rules_hunyuan
from skipdit_jax.checkpoints.arrays import ArraySpec
from skipdit_jax.checkpoints.dialects import from_own, to_own
from skipdit_jax.checkpoints.handles import TensorHandle, contiguous_strides
from skipdit_jax.checkpoints.layouts import recognise
from skipdit_jax.checkpoints.pixart_original import DIALECT
from skipdit_jax.checkpoints.rules import tensor_entries
from skipdit_jax.cli import convert
from skipdit_jax.encoders.text import TextEmbeddings
from skipdit_jax.trees import flatten
from skipdit_jax.weights.networks import open_known
from skipdit_jax.weights.texts import condition_of, stored_null
from tests.checkpoints.test_layouts import recorded
from tests.networks import random_params

TINY = {"depth": 2, "hidden_size": 24, "num_heads": 2, "input_size": 4, "text_width": 8}
TWO_TEXTS = {"depth": 4, "t5_width": 8, "t5_tokens": 4, "text_tokens": 3, "pooled_width": 8}
SIZED = {"size_condition": True}
RELEASED = {  # file -> (model, what nothing but a config.json shows, buffers that nothing reads)
    "LatteT2V-skip": ("LatteT2V-XL/2-skip", {}, {"caption_projection.y_embedding"}),
    "PixArt-alpha-XL-2-1024-MS-diffusers": (
        "PixArt-XL/2-1024-MS",
        {"input_size": 128, "sample_size": 128},
        set(),
    ),
}


@pytest.mark.parametrize("stem", RELEASED)
def test_every_name_and_shape_of_a_released_file_belongs_to_one_parameter(stem):
    facts, wanted = recorded(stem)
    name, stated, buffers = RELEASED[stem]
    family = recognise(wanted, registry.weight_layouts())
    model = registry.build(family.name, {**family.fields_of_shapes(wanted, None), **stated})
    assert model.config == registry.create_model(name).config
    entries = tensor_entries(family.rules(vars(model.config)), registry.abstract_params(model))
    found = {name: entry.torch_shape for name, entry in entries.items()}
    assert found == {name: shape for name, shape in wanted.items() if name not in buffers}
    assert sum(int(np.prod(shape)) for shape in found.values()) == facts["n_params"]


def test_the_authors_names_and_shapes_are_those_of_the_same_network(tmp_path):
    _, theirs = recorded("PixArt-alpha-XL-2-1024-MS-original")
    _, own = recorded("PixArt-alpha-XL-2-1024-MS-diffusers")
    network = {n: s for n, s in theirs.items() if n not in ("pos_embed", "y_embedder.y_embedding")}
    handles = {
        name: TensorHandle(tmp_path, 0, np.dtype(np.float32), shape, contiguous_strides(shape))
        for name, shape in network.items()
    }
    assert {name: handle.shape for name, handle in to_own(DIALECT, handles).items()} == own
    config = vars(registry.create_model("PixArt-XL/2-1024-MS").config)
    kind = np.dtype(np.float32)
    specs = {
        n: ArraySpec(s, kind, lambda s=s: np.broadcast_to(kind.type(0), s)) for n, s in own.items()
    }
    assert {n: spec.shape for n, spec in from_own(DIALECT, specs, config).items()} == network


def test_hunyuans_authors_names_are_those_of_the_same_network(tmp_path):
    _, theirs = recorded("HunYuanDiT-v1.1-g-2")
    _, own = recorded("HunyuanDiT-v1.1-diffusers")
    handles = {
        name: TensorHandle(tmp_path, 0, np.dtype(np.float32), shape, contiguous_strides(shape))
        for name, shape in theirs.items()
    }
    found = {n: h.shape for n, h in to_own(hunyuan_original.DIALECT, handles).items()}
    assert found == own
    fields = rules_hunyuan.fields_of_shapes(own)
    wanted = vars(registry.create_model("HunYuan-DiT-g/2-v1.1").config)
    assert int(fields.pop("mlp_ratio") * fields["hidden_size"]) == 6144
    assert {**wanted, **fields, "input_size": wanted["input_size"]} == wanted


@pytest.mark.slow
def test_every_name_of_hunyuan_belongs_to_one_parameter():
    _, wanted = recorded("HunyuanDiT-v1.1-diffusers")
    model = registry.create_model("HunYuan-DiT-g/2-v1.1")
    rules = registry.layout_of(model).rules(vars(model.config))
    entries = tensor_entries(rules, registry.abstract_params(model))
    assert {name: entry.torch_shape for name, entry in entries.items()} == wanted


def make(name, **changes):
    model = sd.create_model(name, **{**TINY, **changes})
    return model, random_params(model)


@pytest.mark.parametrize(
    ("name", "layout", "changes"),
    [
        ("PixArt-S/2-skip", "torch", SIZED),
        ("PixArt-S/2", "original", SIZED),
        ("LatteT2V-S/2-skip", "torch", {}),
        ("LatteT2V-S/2", "native", {}),
        ("HunYuan-DiT-g/2-v1.1", "original", TWO_TEXTS),
        ("HunYuan-DiT-g/2", "torch", TWO_TEXTS),
    ],
)
def test_a_round_trip_is_exact(tmp_path, name, layout, changes):
    model, params = make(name, **changes)
    path = tmp_path / "x.safetensors"
    sd.export_checkpoint(path, params, model, layout=layout)
    stated = {} if layout == "native" else {"num_heads": 2, "input_size": 4}
    read, back = sd.load_checkpoint(path, **stated)
    assert registry.family_of(read) == registry.family_of(model)
    assert read.config.skip == model.config.skip
    assert read.config.text_width == model.config.text_width
    leaves = flatten(back)
    assert leaves.keys() == flatten(params).keys()
    for path_of_leaf, leaf in flatten(params).items():
        assert np.array_equal(leaves[path_of_leaf], leaf), path_of_leaf


def test_convert_goes_from_one_spelling_to_the_other_and_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, params = make("PixArt-S/2", **SIZED)
    sd.export_checkpoint("own.safetensors", params, model)
    size = ["--num-heads", "2", "--image-size", "32"]
    convert.main(["own.safetensors", "original.safetensors", "--to", "original", *size])
    theirs = load_file("original.safetensors")
    qkv = np.concatenate([params["blocks_1"]["attn"][part]["kernel"].T for part in "qkv"])
    assert np.array_equal(theirs["blocks.1.attn.qkv.weight"], qkv)
    convert.main(["original.safetensors", "back.safetensors", "--to", "torch", *size])
    own, back = load_file("own.safetensors"), load_file("back.safetensors")
    assert own.keys() == back.keys()
    assert all(np.array_equal(back[name], array) for name, array in own.items())


def test_buffers_that_nothing_reads_are_left_out(tmp_path):
    model, params = make("LatteT2V-S/2-skip")
    path = tmp_path / "x.safetensors"
    sd.export_checkpoint(path, params, model)
    buffer = {"caption_projection.y_embedding": np.ones((120, 8), np.float32)}
    save_file({**load_file(path), **buffer}, path)
    read = sd.load_checkpoint(path, model)
    assert flatten(read).keys() == flatten(params).keys()


def write_original(path, table=None, null=None, **changes):
    """A file in the names of PixArt's authors, with what they keep beside the network."""
    model, params = make("PixArt-S/2", **changes)
    sd.export_checkpoint(path, params, model, layout="original")
    beside = {"pos_embed": table, "y_embedder.y_embedding": null}
    more = {name: array for name, array in beside.items() if array is not None}
    save_file({**load_file(path), **more}, path)
    return model, params


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_the_authors_table_of_positions_shows_the_size(tmp_path, scale):
    """Also rounded; another size then stretches what the weights were made for."""
    path = tmp_path / "x.safetensors"
    width = TINY["hidden_size"]
    places = np.arange(4) / scale
    waves = places[:, None] * 10_000.0 ** (-np.arange(width // 4) / (width // 4))
    of_side = np.concatenate([np.sin(waves), np.cos(waves)], axis=1)
    table = np.concatenate([np.tile(of_side, (4, 1)), np.repeat(of_side, 4, axis=0)], axis=1)
    for kind in (np.float32, ml_dtypes.bfloat16):
        write_original(path, table.astype(kind)[None])
        read, _ = sd.load_checkpoint(path, num_heads=2)
        assert (read.config.input_size, read.config.sample_size) == (8, 8)
        assert read.config.extent == 4 / scale
        larger, _ = sd.load_checkpoint(path, num_heads=2, input_size=(8, 12))
        assert larger.config.extent == 4 / scale


def test_what_is_no_table_of_positions_shows_nothing(tmp_path):
    path, rng = tmp_path / "x.safetensors", np.random.default_rng(0)
    for table in (
        rng.normal(size=(1, 16, 24)),
        np.full((1, 16, 24), np.nan),
        np.zeros((1, 15, 24)),
    ):
        write_original(path, table.astype(np.float32))
        with pytest.raises(CheckpointError, match="does not show input_size"):
            sd.load_checkpoint(path, num_heads=2)


def test_the_text_of_no_prompt_is_found_and_guides(tmp_path):
    path, rng = tmp_path / "x.safetensors", np.random.default_rng(0)
    null = rng.normal(size=(5, 8)).astype(np.float32)
    model, _ = write_original(path, null=null)
    checkpoint = open_known(path)
    assert checkpoint.notes == ("names of original",)
    np.testing.assert_array_equal(stored_null(checkpoint), null)
    read, _ = sd.load_checkpoint(path, num_heads=2, input_size=4)
    assert read.config.text_tokens == 5
    text, mask = rng.normal(size=(2, 5, 8)).astype(np.float32), np.tri(5, dtype=np.int32)[2:4]
    embeds = {"t5": TextEmbeddings(("a", "b"), text, mask, (0, 0))}
    found = condition_of(model, embeds, ["b", "a"], null_text=null)
    np.testing.assert_array_equal(found.text, text[::-1])
    np.testing.assert_array_equal(found.null_text, [null, null])
    np.testing.assert_array_equal(found.null_mask, mask[::-1])
    np.testing.assert_array_equal(found.mask, mask[::-1])
    with pytest.raises(ValueError, match=r"null text: found \(4, 8\), wanted that of prompts"):
        condition_of(model, embeds, ["a"], null_text=null[1:])
    sd.export_checkpoint(path, sd.load_checkpoint(path, read), read)
    assert stored_null(open_known(path)) is None


def test_frames_as_pictures_take_the_same_weights(tmp_path):
    model, params = make("LatteT2V-S/2-skip")
    path = tmp_path / "x.safetensors"
    sd.export_checkpoint(path, params, model)
    pictures, _ = sd.load_checkpoint(path, num_heads=2, input_size=4, temporal=False)
    assert not pictures.config.temporal
    assert "tattn" not in dict(pictures.costs.sublayers)


def test_skips_have_no_names_in_the_authors_files(tmp_path):
    model, params = make("PixArt-S/2-skip")
    with pytest.raises(CheckpointError, match=r"original has no names for skip_norms\.0\.weight"):
        sd.export_checkpoint(tmp_path / "x.pt", params, model, layout="original")
    assert not list(tmp_path.iterdir())


def without(name):
    return lambda tensors: {key: value for key, value in tensors.items() if key != name}


def cut(name):
    return lambda tensors: {**tensors, name: tensors[name][:-1]}


@pytest.mark.parametrize(
    ("layout", "damage", "told"),
    [
        ("torch", without("transformer_blocks.0.attn1.to_k.weight"), "1 missing: .*attn1.to_k"),
        ("original", without("blocks.0.attn.qkv.bias"), "3 missing: .*attn1.to_q.bias"),
        ("original", cut("blocks.0.attn.qkv.bias"), "qkv.bias has shape .*wanted 3 equal parts"),
        ("torch", without("proj_out.bias"), "1 missing: proj_out.bias"),
        ("torch", without("pos_embed.proj.weight"), "1 missing: pos_embed.proj.weight"),
    ],
)
def test_damaged_files_are_told_in_one_line(tmp_path, layout, damage, told):
    path = tmp_path / "x.safetensors"
    model, params = make("PixArt-S/2")
    sd.export_checkpoint(path, params, model, layout=layout)
    save_file(damage(load_file(path)), path)
    with pytest.raises(CheckpointError, match=told) as caught:
        sd.load_checkpoint(path, num_heads=2, input_size=4)
    assert "\n" not in str(caught.value)


def test_the_size_is_asked_for(tmp_path):
    path = tmp_path / "x.safetensors"
    model, params = make("PixArt-S/2")
    sd.export_checkpoint(path, params, model)
    with pytest.raises(CheckpointError, match=r"does not show input_size: .*--image-size"):
        sd.load_checkpoint(path, num_heads=2)
    stated = {"_class_name": "PixArtTransformer2DModel", "num_attention_heads": 2}
    config = {**stated, "sample_size": 4, "interpolation_scale": 0.5}
    (tmp_path / "config.json").write_text(json.dumps(config))
    read, _ = sd.load_checkpoint(path)
    assert read.config.input_size == read.config.sample_size == 4
    assert read.config.extent == 4
