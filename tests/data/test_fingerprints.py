"""Another data set of the same size is not taken for the one that a run began with."""

import shutil

import numpy as np
import pytest

from skipdit_jax.data.config import DataConfig
from skipdit_jax.data.latent_files import write_latents
from skipdit_jax.data.open import FINGERPRINT, open_data
from tests.data.pictures import write_tree

SHAPE = (8, 8, 3)


def batches(path, name="folder", shape=SHAPE):
    return open_data(
        DataConfig(name=name, path=str(path)),
        sample_shape=shape,
        num_classes=1000,
        batch_size=2,
        seed=0,
    )


def refused(state, other):
    with pytest.raises(ValueError, match=r"data state: fingerprint was '\w+', is now '\w+'"):
        other.set_state(state)


def test_a_moved_folder_goes_on_and_one_of_other_names_or_sizes_does_not(tmp_path):
    tree = write_tree(tmp_path / "a")
    state = batches(tree).get_state()
    moved = shutil.copytree(tree, tmp_path / "moved")
    batches(moved).set_state(state)
    file = next(path for path in sorted(moved.rglob("*")) if path.is_file())
    file.write_bytes(file.read_bytes() + b" ")
    refused(state, batches(moved))
    shutil.copytree(tree, tmp_path / "renamed")
    file = tmp_path / "renamed" / file.relative_to(moved)
    file.rename(file.with_stem("another"))
    refused(state, batches(tmp_path / "renamed"))


def test_a_position_of_an_earlier_version_goes_on(tmp_path):
    opened = batches(write_tree(tmp_path / "a"))
    state = opened.get_state()
    later = {name: value for name, value in state.items() if name != FINGERPRINT}
    opened.set_state(later)
    assert opened.get_state() == state


@pytest.mark.parametrize("format", ["npz", "array_record"])
def test_latents_of_other_numbers_are_others(tmp_path, format):
    for seed in (0, 1):
        numbers = np.random.default_rng(seed).standard_normal((4, 2, 2, 4)).astype(np.float32)
        examples = ({"sample": array, "label": 0} for array in numbers)
        write_latents(tmp_path / str(seed), examples, format=format)
    state = batches(tmp_path / "0", "latents", (2, 2, 4)).get_state()
    batches(tmp_path / "0", "latents", (2, 2, 4)).set_state(state)
    refused(state, batches(tmp_path / "1", "latents", (2, 2, 4)))
