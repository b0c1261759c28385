"""Checkpoints of autoencoders: old and new names, there and back, and files that are no such."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import skipdit_jax as sd
from skipdit_jax.published import SDXL_LATENT_SCALE
from skipdit_jax.trees import flatten
from skipdit_jax.weights import export_vae, load_vae
from tests.checkpoints.states import write_state
from tests.encoders.tiny import make

GROUPS = {"norm_num_groups": 4}  # no weights tell them
FAMILIES = ("vae", "vae_temporal")
OLDER = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


@pytest.fixture(params=FAMILIES)
def saved(request, tmp_path):
    """(path, autoencoder, parameters)."""
    vae, params = make(request.param)
    path = tmp_path / "x.safetensors"
    export_vae(path, params, vae)
    return path, vae, params


def same_bits(got, want):
    got, want = flatten(got), flatten(want)
    assert got.keys() == want.keys()
    for path, leaf in want.items():
        assert np.asarray(got[path]).tobytes() == np.asarray(leaf).tobytes(), path
    return True


def renamed(tensors):
    """The same state dict with the attention names of older files."""
    swaps = [(f".attentions.0.{new}.", f".attentions.0.{old}.") for new, old in OLDER.items()]
    names = {name: name for name in tensors}
    for new, old in swaps:
        names = {name: older.replace(new, old) for name, older in names.items()}
    assert sum(name != older for name, older in names.items()) == 16
    return {names[name]: array for name, array in tensors.items()}


def as_convolutions(tensors):
    """The same state dict with 1x1 convolutions for an attention's linears."""
    return {
        name: array[:, :, None, None] if ".attentions." in name and array.ndim == 2 else array
        for name, array in tensors.items()
    }


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_round_trip_is_exact(tmp_path, suffix, family):
    vae, params = make(family)
    path = tmp_path / f"x{suffix}"
    export_vae(path, params, vae)
    read, back = load_vae(path, **GROUPS)
    assert type(read) is type(vae)
    assert read.config == vae.config
    assert same_bits(back, params)


@pytest.mark.parametrize("older", [renamed, as_convolutions, lambda t: as_convolutions(renamed(t))])
def test_older_files_are_the_same_autoencoder(saved, tmp_path, older):
    path, _, params = saved
    read, back = load_vae(write_state(tmp_path / "old.bin", older(load_file(path))), **GROUPS)
    assert same_bits(back, params)
    export_vae(tmp_path / "new.safetensors", back, read)
    new = load_file(tmp_path / "new.safetensors")
    assert {name: array.tobytes() for name, array in new.items()} == {
        name: array.tobytes() for name, array in load_file(path).items()
    }


def test_torch_reads_the_export(saved, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed: nothing to read with")
    path, vae, params = saved
    export_vae(tmp_path / "x.bin", params, vae)
    state = torch.load(tmp_path / "x.bin", weights_only=True)
    wanted = load_file(path)
    assert state.keys() == wanted.keys()
    assert all(state[name].numpy().tobytes() == array.tobytes() for name, array in wanted.items())


def test_what_no_weights_tell_is_given(saved):
    path, _, _ = saved
    read, params = load_vae(
        path, **GROUPS, scaling_factor=SDXL_LATENT_SCALE, param_dtype="bfloat16", dtype="bfloat16"
    )
    assert read.config.scaling_factor == SDXL_LATENT_SCALE
    assert {str(leaf.dtype) for leaf in flatten(params).values()} == {"bfloat16"}


def told(function, *args, **options):
    with pytest.raises(sd.CheckpointError) as caught:
        function(*args, **options)
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).startswith(str(args[0]))
    return str(caught.value)


def test_misfits_are_told_with_the_names_of_the_file(saved):
    path, _, _ = saved
    tensors = renamed(load_file(path))
    del tensors["decoder.mid_block.attentions.0.key.bias"]
    tensors["encoder.conv_in.bias"] = tensors["encoder.conv_in.bias"][:-1]
    tensors["more.weight"] = np.ones(1, np.float32)
    save_file(tensors, path)
    message = told(load_vae, path, **GROUPS)
    assert "1 missing: decoder.mid_block.attentions.0.key.bias;" in message
    assert "1 surplus: more.weight;" in message
    assert "encoder.conv_in.bias has shape (7,), wanted (8,)" in message


def test_a_file_without_an_encoder_is_told(saved):
    path, _, _ = saved
    save_file({n: a for n, a in load_file(path).items() if n.startswith("decoder.")}, path)
    assert re.search(r"1 missing: encoder\.down_blocks\.0", told(load_vae, path))


def test_an_autoencoder_is_no_diffusion_model(saved):
    path, vae, _ = saved
    assert f"holds a {vae.config.FAMILY} model, wanted" in told(sd.load_checkpoint, path)
    model = sd.create_model("DiT-S/2", depth=2)
    message = told(sd.load_checkpoint, path, model)
    assert f"holds a {vae.config.FAMILY} model, wanted family 'dit'" in message


def test_a_diffusion_model_is_no_autoencoder():
    from skipdit_jax.registry import ASSETS

    message = told(load_vae, ASSETS / "dit_digits.safetensors")
    assert "holds a DiT, Skip-DiT model, wanted an autoencoder" in message


def test_the_wrong_autoencoder_for_a_model_is_told(saved):
    path, vae, _ = saved
    image, video = sd.create_model("DiT-S/2"), sd.create_model("Latte-S/2")
    assert type(load_vae(path, video, **GROUPS)[0]) is type(vae)
    if vae.config.CLIPS:
        message = told(load_vae, path, image, **GROUPS)
        assert "decodes clips, wanted an AutoencoderKL for DiT" in message
    else:
        assert load_vae(path, image, **GROUPS)
    other = sd.create_model("DiT-S/2", in_channels=16)
    assert "of 4 latent channels, wanted 16 for DiT" in told(load_vae, path, other, **GROUPS)


def compvis(tensors, levels):
    """The same state dict in the names of latent diffusion's first authors."""
    rules = [
        (r"(down|up)_blocks\.(\d+)\.resnets", r"\1.\2.block"),
        (r"(down|up)_blocks\.(\d+)\.(?:down|up)samplers\.0", r"\1.\2.\1sample"),
        (r"mid_block\.resnets\.0", "mid.block_1"),
        (r"mid_block\.resnets\.1", "mid.block_2"),
        (r"mid_block\.attentions\.0\.group_norm", "mid.attn_1.norm"),
        (r"mid_block\.attentions\.0\.to_out\.0", "mid.attn_1.proj_out"),
        (r"mid_block\.attentions\.0\.to_([qkv])", r"mid.attn_1.\1"),
        (r"conv_norm_out", "norm_out"),
        (r"conv_shortcut", "nin_shortcut"),
        (r"decoder\.up\.(\d+)", lambda match: f"decoder.up.{levels - 1 - int(match[1])}"),
    ]
    named = {}
    for name, array in tensors.items():
        for pattern, new in rules:
            name = re.sub(pattern, new, name)
        named[name] = array[:, :, None, None] if ".attn_1." in name and array.ndim == 2 else array
    return named


def test_the_first_authors_names_are_the_same_autoencoder(tmp_path):
    vae, params = make("vae")
    export_vae(tmp_path / "x.safetensors", params, vae)
    theirs = compvis(load_file(tmp_path / "x.safetensors"), levels=2)
    beside = {"loss.logvar": np.zeros((), np.float32), "model_ema.decay": np.ones(1, np.float32)}
    whole = {f"first_stage_model.{name}": array for name, array in theirs.items()}
    whole["cond_stage_model.w"] = np.ones(1, np.float32)
    for number, arrays in enumerate(({**theirs, **beside}, whole)):
        read, back = load_vae(write_state(tmp_path / f"{number}.ckpt", arrays), **GROUPS)
        assert read.config == vae.config
        assert same_bits(back, params)
    export_vae(tmp_path / "y.safetensors", back, read, layout="compvis")
    written = load_file(tmp_path / "y.safetensors")
    assert written.keys() == theirs.keys()
    for name, array in theirs.items():
        assert written[name].shape == array.shape, name
        assert written[name].tobytes() == array.tobytes(), name


def test_an_autoencoder_without_quant_convolutions(tmp_path):
    vae, params = make("vae", use_quant_conv=False, use_post_quant_conv=False)
    path = tmp_path / "x.safetensors"
    export_vae(path, params, vae)
    assert not [name for name in load_file(path) if "quant" in name]
    read, back = load_vae(path, **GROUPS)
    assert read.config == vae.config
    assert same_bits(back, params)
    # With convolutions that change nothing, the same function.
    full, more = make("vae")
    one = np.eye(4, dtype=np.float32)[None, None]
    two = np.eye(8, dtype=np.float32)[None, None]
    same = {
        **more,
        **params,
        "quant_conv": {"kernel": two, "bias": np.zeros(8, np.float32)},
        "post_quant_conv": {"kernel": one, "bias": np.zeros(4, np.float32)},
    }
    z = jnp.linspace(-1, 1, 16, dtype=jnp.float32).reshape(1, 2, 2, 4)
    got = vae.apply({"params": params}, z, method="decode")
    want = full.apply({"params": same}, z, method="decode")
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_a_config_beside_the_weights_tells_what_they_do_not(tmp_path):
    vae, params = make("vae")
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    export_vae(path, params, vae)
    config = {"_class_name": "AutoencoderKL", "scaling_factor": 0.5, "norm_num_groups": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    read, _ = load_vae(tmp_path)
    assert (read.config.scaling_factor, read.config.norm_num_groups) == (0.5, 4)
    assert load_vae(path, scaling_factor=0.25)[0].config.scaling_factor == 0.25
    (tmp_path / "config.json").write_text(json.dumps({**config, "shift_factor": 0.1}))
    with pytest.raises(ValueError, match=r"shift_factor .*, wanted 0"):
        load_vae(path)
