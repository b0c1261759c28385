"""Tokens chosen on 8 virtual devices are those chosen on one."""

import json

import pytest

from tests.distributed.processes import run_module

LIMIT = 1e-5


@pytest.fixture(scope="module")
def found():
    return json.loads(run_module("tests.distributed.tokens", devices=8))


@pytest.mark.parametrize("name", ["toca", "random", "duca"])
def test_a_split_batch_chooses_as_a_whole_one(found, name):
    assert found[name]["devices"] == 8
    assert found[name]["off"] <= LIMIT
