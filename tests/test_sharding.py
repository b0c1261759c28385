"""Meshes and shardings on paper: what is split, what is refused. Devices are not needed."""

import math

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

import skipdit_jax as sd
from skipdit_jax import sharding
from skipdit_jax.registry import abstract_params, sharding_rules
from skipdit_jax.sharding import MeshConfig, Split
from skipdit_jax.training.optimizer import OptimizerConfig, make_optimizer
from skipdit_jax.training.state import create_state


def on_paper(data=1, fsdp=1, tensor=1):
    return AbstractMesh((data, fsdp, tensor), sharding.AXES, axis_types=(AxisType.Auto,) * 3)


@pytest.mark.parametrize(
    ("config", "devices", "wanted"),
    [
        (MeshConfig(), 8, (8, 1, 1)),
        (MeshConfig(fsdp=4), 8, (2, 4, 1)),
        (MeshConfig(data=1, fsdp=-1, tensor=2), 8, (1, 4, 2)),
        (MeshConfig(data=2, fsdp=2, tensor=2), 8, (2, 2, 2)),
    ],
)
def test_minus_one_takes_the_rest(config, devices, wanted):
    assert tuple(config.resolve(devices).values()) == wanted


@pytest.mark.parametrize(
    ("config", "devices"),
    [
        (MeshConfig(fsdp=3), 8),
        (MeshConfig(fsdp=16), 8),
        (MeshConfig(data=2, fsdp=2), 8),
        (MeshConfig(data=8, fsdp=2), 8),
    ],
)
def test_a_mesh_that_does_not_fit_is_told(config, devices):
    with pytest.raises(ValueError, match=f"does not fit {devices} devices") as told:
        config.resolve(devices)
    assert f"fsdp {config.fsdp}" in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [({"fsdp": 0}, "mesh.fsdp: found 0"), ({"data": -1, "tensor": -1}, "at most once")],
)
def test_impossible_numbers_are_told(sizes, words):
    with pytest.raises(ValueError, match=words):
        MeshConfig(**sizes)


def test_a_mesh_of_the_devices_that_are_there():
    mesh = sharding.make_mesh(MeshConfig(), jax.devices()[:1])
    assert dict(mesh.shape) == {"data": 1, "fsdp": 1, "tensor": 1}
    assert set(mesh.axis_types) == {AxisType.Auto}
    np.testing.assert_array_equal(sharding.local_rows(mesh, 6), np.arange(6))
    key = sharding.place(jax.random.key(3), sharding.replicated(mesh))
    assert key == jax.random.key(3)


@pytest.mark.parametrize("name", ["DiT-XL/2-skip", "DiT-S/8", "DiT-L/4"])
def test_no_large_parameter_is_whole_everywhere(name):
    """The table names all of them, and 8 divides the widths."""
    model = sd.create_model(name)
    shapes = abstract_params(model)
    where = sharding.shardings(on_paper(fsdp=8), shapes, sharding_rules(model))
    for path, at in jax.tree_util.tree_leaves_with_path(where):
        leaf = shapes
        for key in path:
            leaf = leaf[key.key]
        split = at.shard_shape(leaf.shape) != leaf.shape
        assert split == (leaf.ndim == 2 and leaf.size >= sharding.SMALLEST_SPLIT), path


def test_averages_and_moments_lie_as_their_weights():
    model = sd.create_model("DiT-S/2-skip", depth=2, hidden_size=64, num_heads=4, input_size=8)
    shapes = abstract_params(model)

    def state(params):
        optimizer = make_optimizer(OptimizerConfig(trainable=("skip", "attn")), params)
        return create_state(params, optimizer, jax.random.key(0), (0.9, 0.99))

    state = jax.eval_shape(state, shapes)
    where = sharding.shardings(on_paper(2, 4, 2), state, sharding_rules(model))
    params = dict(jax.tree_util.tree_leaves_with_path(where.params))
    seen = 0
    for path, at in jax.tree_util.tree_leaves_with_path(where):
        for start in range(len(path)):
            if path[start:] in params:
                assert at.spec == params[path[start:]].spec, path
                seen += 1
                break
        else:
            assert at.spec == PartitionSpec(), path
    trained = sum("skip" in str(path) or "attn" in str(path) for path in params)
    assert seen == 3 * len(params) + 2 * trained


@pytest.mark.parametrize("sizes", [(1, 8, 1), (2, 2, 2), (1, 3, 5), (1, 1, 6)])
def test_an_axis_that_does_not_divide_leaves_the_dimension_whole(sizes):
    rules = (Split("w$", ("fsdp", "tensor")),)
    mesh = on_paper(*sizes)
    shape = (128, 96)
    at = sharding.shardings(mesh, {"w": jax.ShapeDtypeStruct(shape, "float32")}, rules)["w"]
    wanted = [n if n % ways else n // ways for n, ways in zip(shape, sizes[1:], strict=True)]
    assert at.shard_shape(shape) == tuple(wanted)


def test_a_rule_for_another_shape_is_told():
    rules = (Split("w$", ("fsdp", None)),)
    tree = {"w": jax.ShapeDtypeStruct((8, 8, 128), "float32")}
    with pytest.raises(ValueError, match=r"w has shape \(8, 8, 128\)"):
        sharding.shardings(on_paper(fsdp=2), tree, rules)


@pytest.mark.parametrize(
    ("sizes", "batch", "accumulate", "fits"),
    [
        ((2, 4, 1), 16, 1, True),
        ((2, 4, 1), 12, 1, False),
        ((2, 1, 4), 2, 1, True),
        ((2, 2, 2), 16, 4, True),
        ((2, 2, 2), 8, 4, False),
    ],
)
def test_batches_are_split_evenly_or_refused(sizes, batch, accumulate, fits):
    mesh = on_paper(*sizes)
    if fits:
        sharding.check_batch(mesh, batch, accumulate)
        return
    wanted = math.prod(sizes[:2]) * accumulate
    with pytest.raises(ValueError, match=f"batch_size: {batch}.*multiple of {wanted}"):
        sharding.check_batch(mesh, batch, accumulate)
