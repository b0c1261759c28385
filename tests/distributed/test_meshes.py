"""Training on 8 virtual devices in one process: equal to one device, and kept where it was put."""

import json

import numpy as np
import pytest

from tests.distributed.meshes import HALF, MESHES, SAVED, STEPS
from tests.distributed.processes import run_module

RELATIVE = 1e-5  # sums in another order; measured 2.5e-7


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("meshes") / "checkpoints"
    return json.loads(run_module("tests.distributed.meshes", folder, devices=8))


@pytest.mark.parametrize("name", MESHES)
def test_every_mesh_learns_as_one_device(found, name):
    one = found["1"]["losses"]
    assert len(one) == STEPS
    assert one[-1] < one[0]
    np.testing.assert_allclose(found[name]["losses"], one, rtol=RELATIVE)


@pytest.mark.parametrize("name", MESHES)
def test_the_state_stays_where_it_was_put(found, name):
    assert found[name]["stays"]


def test_a_device_holds_its_part_of_the_weights(found):
    whole = found["1"]["bytes"]
    assert found["data"]["bytes"] == whole
    # Below a third for a quarter: biases and other small arrays are whole everywhere.
    assert found["fsdp"]["bytes"] < whole / 6
    assert found["data x fsdp"]["bytes"] < whole / 3
    assert found["data x fsdp x tensor"]["bytes"] < whole / 3


@pytest.mark.parametrize("devices", ["1", "2"])
def test_saved_on_eight_devices_restored_on_fewer(found, devices):
    continued = found["continued"][devices]
    assert continued["same"]
    np.testing.assert_allclose(continued["losses"], found[SAVED]["losses"][HALF:], rtol=RELATIVE)
