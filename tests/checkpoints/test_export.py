"""There and back again: import, export, import, bit for bit."""

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from skipdit_jax import trees
from skipdit_jax.checkpoints import (
    CheckpointError,
    config_fields,
    export_state_dict,
    fill,
    rules_dit,
    save_native,
)
from skipdit_jax.weights import open_known
from tests.checkpoints.states import model_of, torch_state, write_state

SUFFIXES = [".pt", ".pth", ".bin", ".safetensors"]


def same_bits(got, want):
    got, want = trees.flatten(got), trees.flatten(want)
    assert got.keys() == want.keys()
    for path, leaf in want.items():
        assert got[path].dtype == leaf.dtype, path
        assert np.asarray(got[path]).tobytes() == np.asarray(leaf).tobytes(), path
    return True


def imported(path, skip, **options):
    _, config, expected = model_of(skip, **options)
    return fill(open_known(path), expected, config), config


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("skip", [False, True])
def test_import_export_import_keeps_every_bit(tmp_path, suffix, skip):
    params, config = imported(write_state(tmp_path / "x.pt", torch_state(skip)), skip)
    target = tmp_path / f"out{suffix}"
    export_state_dict(target, params, config, rules_dit.LAYOUT)
    assert same_bits(imported(target, skip)[0], params)
    read = config_fields(open_known(target), num_heads=2)
    assert read == {key: config[key] for key in read}


def test_torch_reads_the_export_with_the_bits_of_the_original(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed: nothing to read with")
    arrays = torch_state(True)
    params, config = imported(write_state(tmp_path / "x.pt", arrays), True)
    export_state_dict(tmp_path / "out.pt", params, config, rules_dit.LAYOUT)
    state = torch.load(tmp_path / "out.pt", weights_only=True)
    assert state.keys() == arrays.keys()
    for name, array in arrays.items():
        assert state[name].numpy().tobytes() == array.tobytes(), name
        assert tuple(state[name].shape) == array.shape, name


@pytest.mark.golden("ckpt")
def test_recorded_weights_come_back_as_torch_saved_them(golden, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed: nothing to read with")
    from skipdit_jax import registry

    for stem in ("bare_skip", "DiT-tiny-2-bare"):
        checkpoint = open_known(golden / f"{stem}.pt")
        config = config_fields(checkpoint, num_heads=1)
        expected = registry.abstract_params(registry.build("dit", config))
        target = tmp_path / f"{stem}.pt"
        export_state_dict(target, fill(checkpoint, expected, config), config, rules_dit.LAYOUT)
        ours = torch.load(target, weights_only=True)
        theirs = torch.load(golden / f"{stem}.pt", weights_only=True)
        assert ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            assert torch.equal(ours[name].view(torch.int32), tensor.view(torch.int32)), name


def test_the_library_reads_the_safetensors_export(tmp_path):
    arrays = torch_state(True)
    params, config = imported(write_state(tmp_path / "x.pt", arrays), True)
    export_state_dict(tmp_path / "out.safetensors", params, config, rules_dit.LAYOUT)
    state = safetensors.numpy.load_file(tmp_path / "out.safetensors")
    assert state.keys() == arrays.keys()
    assert all(state[name].tobytes() == array.tobytes() for name, array in arrays.items())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_bfloat16_parameters_are_exported_as_such(tmp_path, suffix):
    source = write_state(tmp_path / "x.pt", torch_state(True))
    params, config = imported(source, True, param_dtype="bfloat16")
    target = tmp_path / f"out{suffix}"
    export_state_dict(target, params, config, rules_dit.LAYOUT)
    handles = open_known(target).handles
    assert handles["blocks.0.attn.qkv.weight"].dtype == ml_dtypes.bfloat16
    assert handles["pos_embed"].dtype == np.float32
    assert same_bits(imported(target, True, param_dtype="bfloat16")[0], params)


@pytest.mark.parametrize("param_dtype", ["float32", "bfloat16"])
def test_native_files_keep_every_bit_and_the_config(tmp_path, param_dtype):
    source = write_state(tmp_path / "x.pt", torch_state(True))
    params, config = imported(source, True, param_dtype=param_dtype)
    target = tmp_path / "native.safetensors"
    save_native(target, params, config, "dit", diffusion={"schedule": "linear"}, step=3)
    checkpoint = open_known(target)
    assert checkpoint.which == "native"
    assert config_fields(checkpoint) == config
    assert checkpoint.metadata["diffusion"] == {"schedule": "linear"}
    assert checkpoint.metadata["step"] == 3
    assert same_bits(imported(target, True, param_dtype=param_dtype)[0], params)


def test_metadata_that_json_cannot_hold_writes_nothing(tmp_path):
    with pytest.raises(TypeError, match="JSON"):
        save_native(tmp_path / "x.safetensors", {"a": np.ones(1)}, {"x": object()}, "dit")
    assert not list(tmp_path.iterdir())


def test_other_endings_and_unknown_parameters_are_refused(tmp_path):
    params, config = imported(write_state(tmp_path / "x.pt", torch_state(True)), True)
    with pytest.raises(CheckpointError, match=r"'\.ckpt', wanted one of \.pt, \.pth, \.bin"):
        export_state_dict(tmp_path / "out.ckpt", params, config, rules_dit.LAYOUT)
    more = {**params, "more": {"kernel": np.ones(1)}}
    with pytest.raises(CheckpointError, match="no rule for more/kernel"):
        export_state_dict(tmp_path / "out.pt", more, config, rules_dit.LAYOUT)
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]
