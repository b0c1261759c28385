import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skipdit_jax.checkpoints import CheckpointError
from skipdit_jax.checkpoints.digests import digest
from skipdit_jax.checkpoints.sealing import METADATA_FILE, SEAL, read_sealed, seal
from skipdit_jax.checkpoints.store import Store, latest_step, restore, restore_newest, steps_in

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


def test_every_so_many_steps_are_kept_beside_the_newest(tmp_path):
    with Store(tmp_path / "root", keep=1, keep_every=20) as store:
        for step in (10, 20, 30, 40, 50):
            store.save(step, ITEMS, {})
    assert sorted(entry.name for entry in (tmp_path / "root").iterdir()) == ["20", "40", "50"]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int32, jnp.uint8, jnp.bool_])
def test_any_flipped_bit_changes_the_digest(dtype):
    array = np.random.default_rng(0).integers(0, 2, (3, 4)).astype(dtype)
    seen = {digest({"a": jnp.asarray(array)})}
    bits = 1 if dtype == jnp.bool_ else 8 * array.itemsize
    for bit in range(bits):
        flipped = array.copy()
        flipped.reshape(-1).view(np.uint8)[5 * array.itemsize + bit // 8] ^= 1 << bit % 8
        seen.add(digest({"a": jnp.asarray(flipped)}))
    assert len(seen) == 1 + bits


def test_a_digest_knows_places_and_names():
    a, b = jnp.arange(4.0), jnp.arange(4.0)[::-1]
    digests = [{"a": a, "b": b}, {"a": b, "b": a}, {"a": a, "c": b}, {"a": a.reshape(2, 2), "b": b}]
    assert len({digest(tree) for tree in digests}) == 4
    assert digest({"b": b, "a": a}) == digest({"a": np.asarray(a), "b": np.asarray(b)})


def test_the_newest_intact_checkpoint_is_used_and_the_others_are_named(tmp_path):
    root = tmp_path / "root"
    with Store(root, keep=4) as store:
        for step in (1, 2, 3, 4):
            store.save(step, ITEMS, {"step": step})
    change_silently(root / "4")
    for file in (root / "3" / "params").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:3])
    restored = restore_newest(root, ITEMS, accept=lambda metadata: None)
    assert (restored.step, restored.metadata) == (2, {"step": 2})
    assert [line.partition(":")[0] for line in restored.skipped] == [f"{root}/4", f"{root}/3"]
    assert "digest" in restored.skipped[0]


def change_silently(folder):
    """Puts well-formed data of other numbers in place: what a bit flip looks like to orbax."""
    other = folder.parent.with_name("other")
    with Store(other) as store:
        store.save(1, jax.tree.map(lambda leaf: leaf + 1, ITEMS), {})
    for name in ITEMS:
        shutil.rmtree(folder / name)
        shutil.copytree(other / "1" / name, folder / name)
    shutil.rmtree(other)


def test_where_nothing_is_intact_all_reasons_stand_in_one_line(tmp_path):
    root = saved(tmp_path / "root", steps=(1, 2))
    for step in (1, 2):
        change_silently(root / str(step))
    with pytest.raises(CheckpointError, match=r"no checkpoint is intact: .*/2: .*/1: ") as caught:
        restore_newest(root, ITEMS, accept=lambda metadata: None)
    assert "\n" not in str(caught.value)


def test_a_refusal_is_no_damage(tmp_path):
    def refuse(metadata):
        raise ValueError(f"not {metadata}")

    with pytest.raises(ValueError, match=r"not .*step"):
        restore_newest(saved(tmp_path / "root"), ITEMS, accept=refuse)
    assert restore_newest(tmp_path / "none", ITEMS, accept=refuse) is None


def damaged(root, step, change):
    """Changes the metadata file of a step: `change` takes its bytes, None removes it."""
    file = root / str(step) / METADATA_FILE
    file.unlink() if change is None else file.write_bytes(change(file.read_bytes()))


EMPTY_FOLDER = "an empty step folder"


@pytest.mark.parametrize(
    "change",
    [
        None,
        lambda whole: b"",
        lambda whole: whole[:-1],
        lambda whole: b"null",
        lambda whole: b"[]",
        lambda whole: b"[" * 100_000,
        lambda whole: whole.replace(b'"step"', b'"stop"'),
        lambda whole: whole.replace(b"custom_metadata", b"custom_metadat_"),
        EMPTY_FOLDER,
    ],
    ids=["missing", "empty", "cut", "null", "list", "deep", "renamed", "unknown", "folder"],
)
def test_damaged_metadata_is_named_and_the_one_before_is_used(tmp_path, change):
    root = saved(tmp_path / "root", steps=(1, 2))
    if change == EMPTY_FOLDER:
        shutil.rmtree(root / "2")
        (root / "2").mkdir()
    else:
        damaged(root, 2, change)
    restored = restore_newest(root, ITEMS, accept=lambda metadata: None)
    assert (restored.step, restored.metadata) == (1, {"step": 1})
    (line,) = restored.skipped
    assert line.startswith(f"{root}/2/{METADATA_FILE}: ")
    # The run goes on: what is damaged is written again.
    with Store(root) as store:
        store.save(2, ITEMS, {"step": 2})
    assert restore_newest(root, ITEMS, accept=lambda metadata: None).step == 2


def test_every_flipped_bit_of_the_metadata_is_seen_or_changes_nothing(tmp_path):
    metadata = {"config": {"seed": 3, "lr": 1e-4}, "data": {"next_index": 12}}
    digests = {"params": "ab12", "ema": "cd34"}
    folder, seen = tmp_path / "1", 0
    for name in digests:
        (folder / name).mkdir(parents=True)
    whole = json.dumps({"metrics": {}, "custom_metadata": seal(metadata, digests)}).encode()
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        (folder / METADATA_FILE).write_bytes(flipped)
        try:
            assert read_sealed(folder) == (metadata, digests)
        except CheckpointError:
            seen += 1
    of_metrics = 8 * len("metrics")
    assert 8 * len(whole) - seen <= of_metrics


def test_checkpoints_without_a_seal_are_read_as_before(tmp_path):
    root = saved(tmp_path / "root")
    file = root / "1" / METADATA_FILE
    content = json.loads(file.read_text())
    del content["custom_metadata"]["digests"][SEAL]
    file.write_text(json.dumps(content))
    assert restore(root, ITEMS).metadata == {"step": 1}


def test_no_item_takes_the_name_of_the_seal(tmp_path):
    with pytest.raises(ValueError, match="wanted another name"), Store(tmp_path / "root") as store:
        store.save(1, {SEAL: ITEMS["ema"]}, {})


def test_a_file_where_checkpoints_should_be_is_named(tmp_path):
    (tmp_path / "root").write_text("")
    for look in (steps_in, lambda root: restore_newest(root, ITEMS, print), Store):
        with pytest.raises(CheckpointError, match="root: is no folder, wanted one of checkpoints"):
            look(tmp_path / "root")


def test_a_save_that_fails_is_one_line_and_earlier_ones_stay(tmp_path, monkeypatch):
    root = saved(tmp_path / "root")
    store = Store(root)

    class Pending:
        def result(self):
            try:
                raise OSError(28, "No space left on device")
            except OSError as error:
                raise RuntimeError("a save\nfailed") from error

    monkeypatch.setattr(
        store._checkpointer, "save_checkpointables_async", lambda *_, **__: Pending()
    )
    told = pytest.raises(CheckpointError, match=r"root/2: cannot be saved: .*No space left")
    with told as caught, store:
        store.save(2, ITEMS, {})
    assert "\n" not in str(caught.value)
    assert restore(root, ITEMS).step == 1
