"""The weight table: every name, every layout, both ways."""

import numpy as np
import pytest

from skipdit_jax import registry, trees
from skipdit_jax.checkpoints.errors import CheckpointError
from skipdit_jax.checkpoints.rules import (
    IDENTITY,
    LINEAR,
    Rule,
    linear,
    patch_convolution,
    tensor_entries,
)
from skipdit_jax.checkpoints.rules_dit import fields_of_shapes, fixed_tables, rules

TINY = {"input_size": 4, "patch_size": 2, "hidden_size": 8, "depth": 2, "num_heads": 2}


def tree_of(**options):
    model = registry.build("dit", options)
    return registry.abstract_params(model), vars(model.config)


def numbers(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def test_a_linear_layer_maps_rows_as_torch_does():
    weight, x = numbers(3, 5), numbers(4, 5)
    want = np.stack([[sum(w * v) for w in weight] for v in x])  # y_o = sum_i W_oi x_i
    np.testing.assert_allclose(x @ LINEAR.from_torch(weight), want, rtol=1e-5)


def test_a_patch_embedding_is_the_convolution_of_each_patch():
    patch, channels, width = 2, 3, 5
    weight, picture = numbers(width, channels, patch, patch), numbers(4, 6, channels)
    kernel = patch_convolution(patch).from_torch(weight)
    for row in range(2):
        for column in range(3):
            window = picture[row * patch :, column * patch :][:patch, :patch]
            want = np.zeros(width, np.float32)
            for u in range(patch):
                for v in range(patch):
                    want += weight[:, :, u, v] @ window[u, v]
            np.testing.assert_allclose(window.reshape(-1) @ kernel, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("transform", "shape"),
    [(IDENTITY, (4,)), (LINEAR, (3, 5)), (patch_convolution(2), (7, 4, 2, 2))],
)
def test_transforms_are_undone_exactly(transform, shape):
    array = numbers(*shape)
    ours = transform.from_torch(array)
    np.testing.assert_array_equal(transform.to_torch(ours), array)
    assert transform.torch_shape(ours.shape) == shape


def test_a_rule_translates_its_own_paths_only():
    rule = Rule("blocks.{i}.attn.qkv.weight", "blocks_{i}/attn/qkv/kernel")
    assert rule.torch_name("blocks_12/attn/qkv/kernel") == "blocks.12.attn.qkv.weight"
    assert rule.torch_name("blocks_x/attn/qkv/kernel") is None
    assert rule.torch_name("more/blocks_1/attn/qkv/kernel") is None
    assert rule.torch_name("blocks_1/attn/qkv/bias") is None


def test_parameters_without_a_rule_are_all_named():
    tree = {"a": {"kernel": np.ones((2, 2)), "bias": np.ones(2)}, "b": np.ones(1), "c": np.ones(1)}
    with pytest.raises(CheckpointError, match="b, c"):
        tensor_entries(linear("a", "a"), tree)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"skip": True},
        {"num_classes": 0},
        {"learn_sigma": False},
        {"class_dropout_prob": 0.0},
        {"in_channels": 1, "num_classes": 10, "skip": True},
        {"input_size": (4, 8)},
        {"patch_size": 4, "mlp_ratio": 2.5},
    ],
    ids=str,
)
def test_every_parameter_has_one_torch_name_and_back(options):
    tree, config = tree_of(**{**TINY, **options})
    entries = tensor_entries(rules(config), tree)
    shapes = {path: leaf.shape for path, leaf in trees.flatten(tree).items()}
    assert {entry.path: entry.shape for entry in entries.values()} == shapes
    assert len(entries) == len(shapes)


def torch_shapes(**options):
    tree, config = tree_of(**options)
    shapes = {key: entry.torch_shape for key, entry in tensor_entries(rules(config), tree).items()}
    return {**shapes, **{key: table.shape for key, table in fixed_tables(config).items()}}, config


@pytest.mark.parametrize("name", ["DiT-S/8", "DiT-B/4-skip", "DiT-L/2"])
def test_the_config_of_published_sizes_is_read_off_the_shapes(name):
    model = registry.create_model(name)
    shapes, config = torch_shapes(**vars(model.config))
    read = fields_of_shapes(shapes)
    assert read == {key: config[key] for key in read}


@pytest.mark.parametrize(
    "options",
    [
        {"num_classes": 0, "class_dropout_prob": 0.0},
        {"learn_sigma": False, "in_channels": 3},
        {"skip": True, "input_size": 12},
        {"mlp_ratio": 2.5},
        {"mlp_ratio": 100 / 24, "hidden_size": 24},
        {"depth": 3},
    ],
    ids=str,
)
def test_the_config_of_other_sizes_is_read_off_the_shapes(options):
    shapes, config = torch_shapes(**{**TINY, **options})
    read = fields_of_shapes(shapes, num_heads=2)
    assert read == {key: config[key] for key in read}
    assert torch_shapes(**read)[0] == shapes


def test_heads_are_asked_for_where_they_cannot_be_known():
    shapes, _ = torch_shapes(**TINY)
    with pytest.raises(CheckpointError, match="num_heads"):
        fields_of_shapes(shapes)


def test_latents_that_are_not_square_are_asked_for():
    shapes, _ = torch_shapes(**{**TINY, "input_size": (4, 8)})
    with pytest.raises(CheckpointError, match="input_size"):
        fields_of_shapes(shapes, 2)


@pytest.mark.parametrize(
    "name",
    ["x_embedder.proj.weight", "pos_embed", "final_layer.linear.bias"],
)
def test_a_damaged_telltale_is_named(name):
    shapes, _ = torch_shapes(**TINY)
    with pytest.raises(CheckpointError, match=name):
        fields_of_shapes({**shapes, name: (3,)}, 2)


def test_a_missing_telltale_is_named():
    shapes, _ = torch_shapes(**TINY)
    del shapes["x_embedder.proj.weight"]
    with pytest.raises(CheckpointError, match=r"missing: x_embedder\.proj\.weight"):
        fields_of_shapes(shapes, 2)
