"""Filling a model: every weight in its place, or everything that does not fit in one message."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from skipdit_jax import trees
from skipdit_jax.checkpoints import CheckpointError, fill, save_native
from skipdit_jax.weights import open_known
from tests.checkpoints.states import model_of, torch_state, write_state


def filled(path, arrays, skip=True, allow_missing=(), init=None, **options):
    _, config, expected = model_of(skip, **options)
    checkpoint = open_known(write_state(path / "x.pt", arrays))
    return trees.flatten(fill(checkpoint, expected, config, allow_missing, init))


def numbers(expected):
    """Parameters of a model: one number per leaf, all different."""
    leaves = trees.flatten(expected)
    values = {p: jnp.full(leaf.shape, i, leaf.dtype) for i, (p, leaf) in enumerate(leaves.items())}
    return trees.unflatten(values)


def refusal(*args, **options):
    with pytest.raises(CheckpointError) as caught:
        filled(*args, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("skip", [False, True])
def test_every_weight_finds_its_place(tmp_path, skip):
    arrays = torch_state(skip)
    params = filled(tmp_path, arrays, skip)
    _, _, expected = model_of(skip)
    shapes = {path: (leaf.shape, leaf.dtype) for path, leaf in trees.flatten(expected).items()}
    assert {path: (leaf.shape, leaf.dtype) for path, leaf in params.items()} == shapes
    assert all(isinstance(leaf, jax.Array) for leaf in params.values())
    pairs = {
        "blocks.1.attn.qkv.weight": "blocks_1/attn/qkv/kernel",
        "blocks.0.adaLN_modulation.1.weight": "blocks_0/modulation/kernel",
        "t_embedder.mlp.2.weight": "t_embedder/fc2/kernel",
        "final_layer.linear.weight": "final_layer/linear/kernel",
    }
    pairs |= {"skip_linears.0.linear.weight": "skip_fusions_0/linear/kernel"} if skip else {}
    for name, path in pairs.items():
        np.testing.assert_array_equal(params[path], arrays[name].T)
    same = {
        "blocks.1.mlp.fc1.bias": "blocks_1/mlp/fc1/bias",
        "y_embedder.embedding_table.weight": "y_embedder/embedding",
    }
    same |= {"skip_norms.0.weight": "skip_fusions_0/norm/scale"} if skip else {}
    for name, path in same.items():
        np.testing.assert_array_equal(params[path], arrays[name])


def test_all_misfits_are_in_one_message(tmp_path):
    arrays = torch_state(True)
    del arrays["blocks.1.attn.qkv.weight"], arrays["skip_norms.0.bias"], arrays["pos_embed"]
    arrays["blocks.9.attn.proj.weight"] = arrays["extra"] = np.ones(1, np.float32)
    arrays["blocks.0.mlp.fc1.weight"] = arrays["blocks.0.mlp.fc1.weight"].T.copy()
    arrays["blocks.0.attn.proj.weight"] = arrays["blocks.0.attn.proj.weight"].reshape(-1)
    arrays["final_layer.linear.bias"] = np.zeros(24, np.int64)
    message = refusal(tmp_path, arrays)
    for part in (
        "2 missing: ",
        "blocks.1.attn.qkv.weight",
        "skip_norms.0.bias",
        "2 surplus: ",
        "blocks.9.attn.proj.weight",
        "extra",
        "2 misshapen: ",
        "blocks.0.mlp.fc1.weight has shape (8, 32), wanted (32, 8)",
        "blocks.0.attn.proj.weight has shape (64,), wanted (8, 8)",
        "final_layer.linear.bias has type int64",
    ):
        assert part in message, part


def test_a_model_of_another_size_is_told_name_by_name(tmp_path):
    message = refusal(tmp_path, torch_state(False), False, hidden_size=16)
    assert "wanted (48, 16)" in message
    assert "missing" not in message


SKIP_NAMES = ["skip_norms.0.weight", "skip_norms.0.bias"]
SKIP_NAMES += ["skip_linears.0.linear.weight", "skip_linears.0.linear.bias"]


def test_a_plain_checkpoint_is_no_skip_model(tmp_path):
    message = refusal(tmp_path, torch_state(False))
    assert "4 missing" in message
    assert all(name in message for name in SKIP_NAMES)


def test_a_skip_checkpoint_is_no_plain_model(tmp_path):
    message = refusal(tmp_path, torch_state(True), False)
    assert "4 surplus" in message
    assert all(name in message for name in SKIP_NAMES)


@pytest.mark.parametrize("patterns", [["skip_*"], ["skip_fusions_*"], SKIP_NAMES], ids=str)
def test_a_plain_checkpoint_becomes_a_skip_model_if_asked(tmp_path, patterns):
    arrays = torch_state(False)
    init = numbers(model_of(True)[2])
    params = filled(tmp_path, arrays, True, patterns, init)
    start = trees.flatten(init)
    plain = filled(tmp_path, arrays, False)
    kept = params.keys() - plain.keys()
    assert len(kept) == 4
    assert all(path.startswith("skip_fusions_0/") for path in kept)
    for path, leaf in params.items():
        np.testing.assert_array_equal(leaf, start[path] if path in kept else plain[path])


def test_permission_covers_only_the_names_it_fits(tmp_path):
    arrays = torch_state(False)
    del arrays["blocks.0.attn.qkv.bias"]
    init = numbers(model_of(True)[2])
    message = refusal(tmp_path, arrays, True, ["skip_*"], init)
    assert "1 missing: blocks.0.attn.qkv.bias" in message
    assert "skip" not in message.split(": ", 1)[1]


def test_permission_to_miss_is_none_to_misfit(tmp_path):
    arrays = torch_state(True)
    arrays["skip_norms.0.bias"] = np.zeros(3, np.float32)
    assert "skip_norms.0.bias has shape (3,)" in refusal(tmp_path, arrays, True, ["skip_*"], {})


def test_permission_needs_values_of_the_right_shape(tmp_path):
    arrays = torch_state(False)
    assert "init" in refusal(tmp_path, arrays, True, ["skip_*"])
    init = {"skip_fusions_0": {"norm": {"scale": jnp.ones(3), "bias": jnp.ones(3)}}}
    assert "(3,), wanted (16,)" in refusal(tmp_path, arrays, True, ["skip_*"], init)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_values_that_are_not_finite_are_refused_by_name(tmp_path, value, dtype):
    arrays = {name: array.astype(dtype) for name, array in torch_state(True).items()}
    arrays["t_embedder.mlp.2.bias"][3] = value
    assert "t_embedder.mlp.2.bias holds values" in refusal(tmp_path, arrays)


def test_values_too_large_for_the_model_are_refused_by_name(tmp_path):
    arrays = torch_state(True)
    arrays["x_embedder.proj.bias"][0] = 3.4e38  # rounds to infinity in bfloat16
    assert "x_embedder.proj.bias" in refusal(tmp_path, arrays, param_dtype="bfloat16")


def test_half_precision_files_fill_float32_models_exactly(tmp_path):
    arrays = {name: array.astype(np.float16) for name, array in torch_state(True).items()}
    params = filled(tmp_path, arrays)
    bias = params["blocks_0/attn/qkv/bias"]
    assert bias.dtype == jnp.float32
    np.testing.assert_array_equal(bias, arrays["blocks.0.attn.qkv.bias"].astype(np.float32))


def test_float32_files_fill_bfloat16_models_rounded(tmp_path):
    arrays = torch_state(True)
    bias = filled(tmp_path, arrays, param_dtype="bfloat16")["blocks_0/attn/qkv/bias"]
    want = arrays["blocks.0.attn.qkv.bias"].astype(ml_dtypes.bfloat16)
    assert np.asarray(bias).tobytes() == want.tobytes()


TABLES = {
    "rows and columns exchanged": lambda table: table[:, [0, 2, 1, 3]],
    "cosine first": lambda table: np.roll(table, 2, axis=2),
    "zeros": np.zeros_like,
    "one number off": lambda table: table + np.eye(4, 8, dtype=np.float32)[None] * 1e-4,
    "NaN": lambda table: table * np.float32(np.nan),
}


@pytest.mark.parametrize("case", TABLES)
def test_another_position_table_is_refused(tmp_path, case):
    arrays = torch_state(True)
    arrays["pos_embed"] = np.ascontiguousarray(TABLES[case](arrays["pos_embed"]))
    assert "pos_embed differs" in refusal(tmp_path, arrays)


def test_a_table_of_whole_numbers_is_refused(tmp_path):
    arrays = torch_state(True)
    arrays["pos_embed"] = arrays["pos_embed"].astype(np.int64)
    assert "pos_embed has type int64" in refusal(tmp_path, arrays)


def test_position_tables_may_be_rounded_as_the_file_is(tmp_path):
    arrays = torch_state(True)
    rounded = arrays["pos_embed"].astype(np.float16)
    assert filled(tmp_path, {**arrays, "pos_embed": rounded})
    # A float32 file may keep what a half-precision one had rounded, all of it or nothing.
    kept = rounded.astype(np.float32)
    params = filled(tmp_path, {**arrays, "pos_embed": kept})
    assert np.array_equal(params["pos_embed"], kept)
    kept[0, 0, 0] = 1e-4 * np.pi
    assert "pos_embed differs" in refusal(tmp_path, {**arrays, "pos_embed": kept})


def test_a_native_file_is_checked_like_any_other(tmp_path):
    _, config, expected = model_of(True)
    params = numbers(expected)
    path = tmp_path / "x.safetensors"
    broken = trees.flatten(params)
    del broken["blocks_0/attn/qkv/bias"]
    broken["more"] = jnp.ones(1)
    broken["blocks_1/mlp/fc1/kernel"] = jnp.ones((8, 3))
    save_native(path, trees.unflatten(broken), config, "dit")
    with pytest.raises(CheckpointError) as caught:
        fill(open_known(path), expected, config)
    for part in ("blocks_0/attn/qkv/bias", "1 surplus: more", "(8, 3), wanted (8, 32)"):
        assert part in str(caught.value)
    bad = trees.flatten(params)
    bad["x_embedder/bias"] = jnp.full(8, jnp.nan)
    save_native(path, trees.unflatten(bad), config, "dit")
    with pytest.raises(CheckpointError, match="x_embedder/bias holds values"):
        fill(open_known(path), expected, config)
