"""A hostile file of at most 16 MiB costs 5 s of the processor and 500 MB above the idle process.

They are opened in a process of their own: the type checks of the tests make reading much slower.
"""

import pytest

from skipdit_jax.checkpoints.errors import MAX_MESSAGE
from tests.checkpoints import attack_kit, attacks
from tests.checkpoints.subprocesses import in_subprocess

SECONDS, MEGABYTES = 5, 500
HARMLESS = {  # 64 heads of one channel are a model, and so is one of 524,176 tokens
    "claims_heads",
    "claims_largest_table",
}
SLOW = {  # to make or to refuse, and others stand for the same limit
    "a_group_without_end",
    "a_header_just_allowed",
    "a_header_without_end",
    "blocks_just_allowed",
    "blocks_without_number",
    "claims_channels",
    "claims_largest_table",
    "claims_patch",
    "members_just_allowed",
    "tensors_without_number",
}


def check_costs(labels, folder):
    for label in labels:
        attacks.ATTACKS[label](folder / label)
        assert (folder / label).stat().st_size <= 2**24
    rows = in_subprocess("tests.checkpoints.attacks", *sorted(folder.iterdir()))
    assert {row["name"] for row in rows} == {*labels}
    for row in rows:
        assert row["seconds"] < SECONDS, row
        assert row["megabytes"] < MEGABYTES, row
        assert (row["error"] is None) == (row["name"] in HARMLESS), row
        if row["error"] is not None:
            assert row["error"].isprintable()
            assert len(row["error"]) <= MAX_MESSAGE


def test_small_files_are_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(attack_kit, "SIZE", 2**18)
    check_costs([label for label in attacks.ATTACKS if label not in SLOW], tmp_path)


@pytest.mark.slow
def test_files_of_16_mib_cost_seconds_and_megabytes(tmp_path):
    check_costs(attacks.ATTACKS, tmp_path)
