"""Caches that decide, on a batch that 8 virtual devices share: they decide as one device does."""

import json

import numpy as np
import pytest

from tests.distributed.deciding import POLICIES
from tests.distributed.processes import run_module


@pytest.fixture(scope="module")
def found():
    return json.loads(run_module("tests.distributed.deciding", devices=8))


@pytest.mark.parametrize("name", POLICIES)
def test_eight_devices_decide_as_one(found, name):
    one, eight = found[name]["kinds"]
    assert one == eight
    assert 0 < sum(one) < len(one)
    np.testing.assert_allclose(*found[name]["compared"], rtol=1e-4)
    assert found[name]["devices"] == 8
    assert found[name]["off"] < 1e-4
