import jax.numpy as jnp
import numpy as np
import pytest

from skipdit_jax.checkpoints import CheckpointError
from skipdit_jax.checkpoints.store import Store, latest_step, restore

ITEMS = {"params": {"a": {"kernel": jnp.arange(6.0).reshape(2, 3)}}, "ema": {"b": jnp.ones(2)}}


def saved(root, steps=(1,)):
    with Store(root) as store:
        for step in steps:
            store.save(step, ITEMS, {"step": step})
    return root


def test_newest_steps_are_kept_and_found(tmp_path):
    root = saved(tmp_path / "root", steps=(1, 2, 30))
    assert latest_step(root) == 30
    assert sorted(entry.name for entry in root.iterdir()) == ["2", "30"]
    restored = restore(root, ITEMS)
    assert (restored.step, restored.metadata) == (30, {"step": 30})
    np.testing.assert_array_equal(
        restored.items["params"]["a"]["kernel"], ITEMS["params"]["a"]["kernel"]
    )


def test_one_item_can_be_read_alone(tmp_path):
    restored = restore(saved(tmp_path / "root"), {"ema": ITEMS["ema"]})
    assert list(restored.items) == ["ema"]


def test_looking_creates_nothing(tmp_path):
    root = tmp_path / "root"
    assert latest_step(root) is None
    with pytest.raises(CheckpointError, match="no checkpoint"):
        restore(root, ITEMS)
    assert not root.exists()


def test_a_missing_step_is_named_with_the_newest(tmp_path):
    root = saved(tmp_path / "root")
    with pytest.raises(CheckpointError, match=r"step 7.*newest is 1"):
        restore(root, ITEMS, step=7)


def test_an_unfinished_save_is_no_checkpoint(tmp_path):
    root = saved(tmp_path / "root")
    (root / "2.orbax-checkpoint-tmp").mkdir()
    assert latest_step(root) == 1


@pytest.mark.parametrize(
    "wanted",
    [
        {"params": {"a": {"kernel": jnp.zeros((3, 3))}}},
        {"params": {"a": {"other": jnp.zeros((2, 3))}}},
        {"optimizer": {"a": jnp.zeros(2)}},
    ],
    ids=["shape", "name", "item"],
)
def test_what_does_not_fit_is_told_in_one_line_with_its_cause(tmp_path, wanted):
    root = saved(tmp_path / "root")
    with pytest.raises(CheckpointError) as caught:
        restore(root, wanted)
    assert str(caught.value).startswith(f"{root}/1: ")
    assert "\n" not in str(caught.value)


def test_damaged_data_is_told_with_its_cause(tmp_path):
    root = saved(tmp_path / "root")
    for file in (root / "1" / "params").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:3])
    with pytest.raises(CheckpointError, match="1: "):
        restore(root, ITEMS)
