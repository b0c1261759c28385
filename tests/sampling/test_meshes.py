"""Arrays of a mesh with Explicit axes, the default of jax.make_mesh: one device shows it."""

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import skipdit_jax as sd
from skipdit_jax import sharding
from skipdit_jax.pipeline import sample_keys
from tests.networks import random_params


@pytest.fixture(scope="module")
def mesh():
    made = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])
    assert made.axis_types == (AxisType.Explicit,), "no more the default: nothing to show"
    return made


@pytest.fixture(scope="module")
def case(mesh):
    """(sampler, weights, keys and the same keys split over the mesh)."""
    model = sd.create_model(
        "DiT-S/2", depth=1, hidden_size=8, num_heads=1, input_size=4, num_classes=0
    )
    keys = sample_keys(jax.random.key(0), 0, 2)
    split = jax.device_put(keys, NamedSharding(mesh, PartitionSpec("data")))
    return sd.Sampler(model, steps=2, method="ddim"), random_params(model), keys, split


def test_samples_are_those_of_no_mesh(case):
    sampler, params, keys, split = case
    found = sampler(params, split)
    assert found.sharding.mesh.axis_types == (AxisType.Auto,)
    np.testing.assert_allclose(found, sampler(params, keys), atol=1e-4)


def test_where_the_mesh_is_the_caller_s_it_is_refused(case, mesh):
    sampler, params, _, split = case
    with pytest.raises(ValueError, match=r"sharding: found a mesh with Explicit axes \(data\)"):
        jax.jit(sampler)(params, split)
    with jax.set_mesh(mesh), pytest.raises(ValueError, match=r"wanted jax\.make_mesh"):
        sampler(params, split)


def test_the_library_lays_arrays_on_auto_axes():
    axes = (1,) * len(sharding.AXES)
    mesh = jax.make_mesh(axes, sharding.AXES, devices=jax.devices()[:1])
    tree = {"qkv": {"kernel": np.zeros((64, 192), np.float32)}}
    laid = sharding.place(tree, sharding.shardings(mesh, tree, ()))
    for found in (laid["qkv"]["kernel"].sharding, sharding.batch_sharding(mesh)):
        assert set(found.mesh.axis_types) == {AxisType.Auto}
