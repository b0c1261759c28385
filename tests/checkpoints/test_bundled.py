"""The models that come with weights: a name alone is the whole of them."""

import jax
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.registry import BUNDLED

SHAPES = {
    "dit-digits": (12, 6, (8, 8, 1)),
    "latte-digits": (6, 3, (8, 32, 32, 1)),
    "pixart-digits": (8, 4, (32, 32, 1)),
    "latte-t2v-digits": (6, 3, (8, 32, 32, 1)),
}


@pytest.mark.parametrize("name", BUNDLED)
def test_a_name_is_the_model_of_its_weights(name):
    model = sd.create_model(name)
    found, params = sd.load_checkpoint(name)
    assert model == found
    assert (model.num_stages, model.num_skips, model.sample_shape) == SHAPES[name]
    jax.tree.map(np.testing.assert_array_equal, params, sd.load_checkpoint(name, found))


@pytest.mark.parametrize("name", BUNDLED)
def test_its_fields_can_be_changed(name):
    changed = sd.create_model(name, num_heads=2, depth=4).config
    assert (changed.num_heads, changed.depth) == (2, 4)
    assert changed.hidden_size == sd.create_model(name).config.hidden_size


def test_a_file_of_that_name_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dit-digits").mkdir()
    with pytest.raises(sd.CheckpointError, match=r"dit-digits: .* wanted a run folder or a file"):
        sd.load_checkpoint("dit-digits")
