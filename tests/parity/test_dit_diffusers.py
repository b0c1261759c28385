"""DiT in the names of diffusers: read as the original's function, written as it was recorded."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import skipdit_jax as sd
from skipdit_jax.checkpoints import CheckpointError
from skipdit_jax.checkpoints.dialects import to_own
from skipdit_jax.checkpoints.dit_diffusers import DIALECT
from skipdit_jax.checkpoints.handles import TensorHandle, contiguous_strides
from skipdit_jax.cli import convert
from skipdit_jax.registry import abstract_params
from skipdit_jax.weights import open_known
from tests.checkpoints.states import write_state
from tests.checkpoints.test_layouts import recorded
from tests.parity import goldens

FORWARD = 5e-5
OTHER = 1e-1  # diffusers' own function is far from that
golden_file = pytest.mark.golden("dit_diffusers")


def described(golden):
    """The config.json that diffusers writes."""
    return json.dumps({"_class_name": "Transformer2DModel", **golden.config["diffusers"]})


@pytest.fixture
def saved(golden, tmp_path):
    path = write_state(tmp_path / "diffusion_pytorch_model.bin", golden.under("diffusers/"))
    (tmp_path / "config.json").write_text(described(golden))
    return path


def steps_of_the_loop(golden, null):
    """(x, t, y, output) of every evaluation of the recorded loop, [cond, null] of each step."""
    noise, latents = golden["loop/z"], golden["loop/original/latents"]
    x = np.concatenate([noise[None], latents[:-1]])  # [steps, 2, C, H, W]
    doubled = np.concatenate([x, x], axis=1)
    labels = np.concatenate([golden["loop/labels"], np.full(len(noise), null)])
    outputs = golden["loop/original/model_out"]
    flat = [array.reshape(-1, *array.shape[2:]) for array in (doubled, outputs)]
    return flat[0], np.repeat(golden["loop/t"], len(labels)), np.tile(labels, len(x)), flat[1]


@golden_file
def test_the_weights_compute_the_originals_function(golden, saved):
    model, params = sd.load_checkpoint(saved.parent)  # heads and size by config.json
    facts = golden.config["original"]
    assert {name: getattr(model.config, name) for name in facts} == facts
    loop_x, loop_t, loop_y, loop_out = steps_of_the_loop(golden, model.config.num_classes)
    x = goldens.channel_last(np.concatenate([golden["in/x"], loop_x]))
    t = jnp.asarray(np.concatenate([golden["in/t"], loop_t]), jnp.float32)
    y = jnp.asarray(np.concatenate([golden["in/y"], loop_y]), jnp.int32)
    out = model.apply({"params": params}, jnp.asarray(x), t, y)
    got, loop = np.split(np.asarray(out), [len(golden["in/x"])])
    want = goldens.channel_last(golden["out/original"])
    goldens.assert_close(got, want, FORWARD, "out/original")
    goldens.assert_close(loop, goldens.channel_last(loop_out), 2 * FORWARD, "loop/original")
    assert goldens.deviation(got, goldens.channel_last(golden["out/diffusers"])) > OTHER
    wrong = goldens.channel_last(golden.damaged("out/original")["out/original"])
    with pytest.raises(AssertionError, match="deviation"):
        goldens.assert_close(got, wrong, FORWARD, "damaged output")


@golden_file
def test_the_names_are_those_of_the_original(golden, saved):
    handles = open_known(saved).handles
    original = golden.under("orig/")
    assert handles.keys() == original.keys() - {"pos_embed"}
    for name, handle in handles.items():
        assert handle.read().tobytes() == original[name].tobytes(), name


@golden_file
def test_export_writes_the_recorded_tensors(golden, saved, tmp_path):
    model, params = sd.load_checkpoint(saved)
    path = tmp_path / "out" / "x.safetensors"
    path.parent.mkdir()
    sd.export_checkpoint(path, params, model, layout="diffusers")
    written = load_file(path)
    wanted = golden.under("diffusers/")
    assert written.keys() == wanted.keys()
    assert all(written[name].tobytes() == wanted[name].tobytes() for name in wanted)


@golden_file
def test_convert_goes_both_ways(golden, saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    convert.main([str(saved), "original.pt"])
    original = {name: handle.read() for name, handle in open_known("original.pt").handles.items()}
    wanted = golden.under("orig/")
    assert original.keys() == wanted.keys()
    np.testing.assert_allclose(original.pop("pos_embed"), wanted["pos_embed"], atol=1e-6)
    assert all(array.tobytes() == wanted[name].tobytes() for name, array in original.items())
    convert.main([str(saved), "native.safetensors"])
    for source, target in (("native.safetensors", "a.safetensors"), (saved, "b.safetensors")):
        convert.main([str(source), target, "--to", "diffusers"])
        written = load_file(target)
        assert written.keys() == golden.under("diffusers/").keys()
        for name, array in golden.under("diffusers/").items():
            assert written[name].tobytes() == array.tobytes(), name


@golden_file
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "transformer_blocks.2.norm1.emb.class_embedder.embedding_table.weight",
            "blocks.2.*differs from transformer_blocks.0.*wanted a copy",
        ),
        ("transformer_blocks.1.attn1.to_k.bias", "1 missing: blocks.1.attn.qkv.bias; 2 surplus"),
    ],
)
def test_damaged_files_are_told(golden, saved, name, reason):
    arrays = golden.under("diffusers/")
    if "embedding" in name:
        arrays[name] = arrays[name] + np.float32(1e-3)
    else:
        del arrays[name]
    write_state(saved, arrays)
    with pytest.raises(CheckpointError, match=reason):
        sd.load_checkpoint(saved)


@golden_file
def test_without_a_config_the_size_is_asked_for(golden, saved):
    (saved.parent / "config.json").write_text("no JSON")
    heads = golden.config["original"]["num_heads"]
    with pytest.raises(CheckpointError, match=r"does not show input_size.*--image-size"):
        sd.load_checkpoint(saved, num_heads=heads)
    model, _ = sd.load_checkpoint(saved, num_heads=heads, input_size=16)
    assert model.config.input_size == 16


def test_the_published_layout_is_that_of_the_original(tmp_path):
    """Names and shapes of the full size, of which no number exists here."""
    _, theirs = recorded("DiT-XL-2-256-diffusers")
    _, original = recorded("DiT-XL-2-256-original")
    handles = {
        name: TensorHandle(tmp_path, 0, np.dtype(np.float32), shape, contiguous_strides(shape))
        for name, shape in theirs.items()
    }
    own = {name: handle.shape for name, handle in to_own(DIALECT, handles).items()}
    assert {**own, "pos_embed": (1, 256, 1152)} == original


def test_skips_have_no_names_in_diffusers(tmp_path):
    model = sd.create_model("DiT-S/8-skip", depth=2, hidden_size=8, num_heads=2, input_size=8)
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), abstract_params(model))
    with pytest.raises(CheckpointError, match=r"diffusers has no names for skip_norms\.0\.weight"):
        sd.export_checkpoint(tmp_path / "x.pt", params, model, layout="diffusers")
    assert not list(tmp_path.iterdir())
