"""What a state dict does not show: sizes of fixed tables, and which rows of labels are classes."""

import jax
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax import registry
from skipdit_jax.checkpoints.errors import CheckpointError
from skipdit_jax.layers.positions import sincos_2d
from skipdit_jax.runs.starting import first_params
from skipdit_jax.runs.train_config import InitConfig
from skipdit_jax.weights import assumptions, open_known
from tests.checkpoints.states import CONFIG, WIDTH, torch_state, write_state

HEADS = {"num_heads": CONFIG["num_heads"]}


def with_rows(rows):
    arrays = torch_state(False)
    table = np.arange(rows * WIDTH, dtype=np.float32).reshape(rows, WIDTH)
    return {**arrays, "y_embedder.embedding_table.weight": table}


def without_table():
    return {name: array for name, array in torch_state(False).items() if name != "pos_embed"}


@pytest.mark.parametrize(
    ("rows", "given", "classes", "null"),
    [
        (1001, None, 1000, True),
        (1000, None, 1000, False),
        (11, None, 10, True),
        (10, None, 10, False),
        (10, 10, 10, False),
        (10, 9, 9, True),
        (8, None, 7, True),
        (8, 8, 8, False),
    ],
)
def test_rows_of_a_label_table(tmp_path, rows, given, classes, null):
    path = write_state(tmp_path / "x.pt", with_rows(rows))
    typed = {} if given is None else {"num_classes": given}
    model, params = sd.load_checkpoint(path, **HEADS, **typed)
    assert (model.config.num_classes, model.conditioning.has_null) == (classes, null)
    assert params["y_embedder"]["embedding"].shape == (rows, WIDTH)
    told = " ".join(assumptions(open_known(path), model))
    usual = rows - 1 in (10, 100, 1000)
    assert (f"has {rows} rows" in told) != usual
    assert ("without guidance" in told) == (not null)


def test_other_numbers_of_classes_are_misfits(tmp_path):
    path = write_state(tmp_path / "x.pt", with_rows(10))
    with pytest.raises(CheckpointError, match=r"has shape \(10, 8\), wanted \(8, 8\)"):
        sd.load_checkpoint(path, num_classes=7, **HEADS)


def test_a_model_without_a_null_row_is_not_guided(tmp_path):
    path = write_state(tmp_path / "x.pt", with_rows(10))
    model, _ = sd.load_checkpoint(path, **HEADS)
    with pytest.raises(ValueError, match=r"guidance scale 4.* needs a model trained with label"):
        sd.Sampler(model, steps="2", guidance=4.0)


def test_fine_tuning_keeps_a_table_of_as_many_rows(tmp_path):
    path = write_state(tmp_path / "x.pt", with_rows(11))
    for dropout, word in ((0.1, ""), (0.0, "10 classes, the model 10 classes and no null")):
        fields = {**CONFIG, "num_classes": 10, "class_dropout_prob": dropout}
        model = registry.build("dit", fields)
        params, notes = first_params(model, jax.random.key(0), InitConfig(ckpt=str(path)))
        assert ("drawn anew" in " ".join(notes)) == bool(word)
        assert word in " ".join(notes)
        assert len(params["y_embedder"]["embedding"]) == model.conditioning.rows


def test_a_state_dict_without_a_position_table(tmp_path):
    path = write_state(tmp_path / "x.pt", without_table())
    with pytest.raises(CheckpointError, match=r"does not show input_size: give input_size"):
        sd.load_checkpoint(path, **HEADS)
    model, params = sd.load_checkpoint(path, input_size=4, **HEADS)
    whole = write_state(tmp_path / "y.pt", torch_state(False))
    _, wanted = sd.load_checkpoint(whole, **HEADS)
    assert jax.tree.all(jax.tree.map(np.array_equal, params, wanted))
    assert "pos_embed is not in the file" in " ".join(assumptions(open_known(path), model))


@pytest.mark.parametrize("half", [False, True])
def test_a_position_table_of_another_size_is_computed_anew(tmp_path, half):
    arrays = torch_state(False)
    if half:  # rounded tables are leaves of their own, but not for another size
        arrays = {name: array.astype(np.float16) for name, array in arrays.items()}
    path = write_state(tmp_path / "x.pt", arrays)
    model, params = sd.load_checkpoint(path, input_size=8, **HEADS)
    assert model.config.input_size == 8
    assert "pos_embed" not in params
    (note,) = (n for n in assumptions(open_known(path), model) if n.startswith("pos_embed"))
    assert note == "pos_embed of the file is [1, 4, 8], the model computes its own [1, 16, 8]"
    first, notes = first_params(model, jax.random.key(0), InitConfig(ckpt=str(path)))
    assert jax.tree.all(jax.tree.map(np.array_equal, first, params))
    assert note in notes


def test_a_trained_table_of_another_size_is_refused(tmp_path):
    arrays = torch_state(False)
    arrays["pos_embed"] = arrays["pos_embed"] + np.float32(0.1)
    path = write_state(tmp_path / "x.pt", arrays)
    with pytest.raises(CheckpointError, match="pos_embed differs by"):
        sd.load_checkpoint(path, input_size=8, **HEADS)


def test_a_table_of_another_width_is_a_misfit(tmp_path):
    arrays = torch_state(False)
    arrays["pos_embed"] = np.array(sincos_2d(4, 4, WIDTH))[None, :, :4].copy()
    path = write_state(tmp_path / "x.pt", arrays)
    with pytest.raises(CheckpointError, match=r"pos_embed has shape \(1, 16, 4\), wanted"):
        sd.load_checkpoint(path, input_size=8, **HEADS)
