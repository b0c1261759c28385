"""There and back again: import, export, import, bit for bit."""

import jax.numpy as jnp
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
from skipdit_jax.checkpoints.arrays import ArraySpec
from skipdit_jax.checkpoints.safetensors_files import write_safetensors_file
from skipdit_jax.weights import export_checkpoint, load_checkpoint, open_known
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


KEPT = ("float16", "bfloat16", "float64", "float8_e4m3fn")


@pytest.mark.parametrize("dtype", KEPT)
def test_types_are_kept_by_load_and_export_if_asked(tmp_path, dtype):
    arrays = {name: array.astype(dtype) for name, array in torch_state(True).items()}
    if dtype == "float8_e4m3fn":  # no table is as coarse as that
        arrays["pos_embed"] = torch_state(True)["pos_embed"]
    source = tmp_path / "x.safetensors"
    specs = {n: ArraySpec(a.shape, a.dtype, lambda a=a: a) for n, a in arrays.items()}
    write_safetensors_file(source, specs, {"format": "pt"})
    model, params = load_checkpoint(source, num_heads=2, keep_dtype=True)
    assert {str(leaf.dtype) for leaf in trees.flatten(params).values()} == {dtype}
    for suffix in (".safetensors", ".pt"):
        target = tmp_path / f"out{suffix}"
        if dtype == "float8_e4m3fn" and suffix == ".pt":
            with pytest.raises(CheckpointError, match=r"has type float8_e4m3fn, which no \.pt"):
                export_checkpoint(target, params, model)
            assert not target.exists()
            continue
        export_checkpoint(target, params, model)
        written = open_known(target).handles
        assert written.keys() == arrays.keys()
        for name, array in arrays.items():
            assert written[name].dtype == array.dtype, name
            assert written[name].read().tobytes() == array.tobytes(), name
    if dtype not in ("float16", "float64"):  # of each kind one
        return
    x, t, y = jnp.ones((1, 4, 4, 3)), jnp.ones(1), jnp.zeros(1, jnp.int32)
    plain = load_checkpoint(source, model)
    got, want = (model.apply({"params": tree}, x, t, y) for tree in (params, plain))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


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
