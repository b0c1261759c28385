"""Path names of parameter trees."""

import pytest

from skipdit_jax import trees

TREE = {
    "blocks_10": {"attn": {"qkv": {"kernel": 1, "bias": 2}}},
    "blocks_2": {"mlp": {"bias": 3}},
    "skip_fusions_0": {"norm": {"scale": 4}, "linear": {"kernel": 5}},
    "top": 6,
}


def test_flatten_names_every_leaf_in_sorted_order():
    flat = trees.flatten(TREE)
    assert flat == {
        "blocks_10/attn/qkv/bias": 2,
        "blocks_10/attn/qkv/kernel": 1,
        "blocks_2/mlp/bias": 3,
        "skip_fusions_0/linear/kernel": 5,
        "skip_fusions_0/norm/scale": 4,
        "top": 6,
    }
    assert list(flat) == sorted(flat)


def test_unflatten_is_the_inverse_of_flatten():
    assert trees.unflatten(trees.flatten(TREE)) == TREE


def test_the_empty_tree_has_no_leaves():
    assert trees.flatten({}) == {}
    assert trees.unflatten({}) == {}


@pytest.mark.parametrize("tree", [{"a/b": 1}, {"": 1}, {"a": {}}])
def test_flatten_refuses_what_a_path_cannot_name(tree):
    with pytest.raises(ValueError, match="flatten"):
        trees.flatten(tree)


@pytest.mark.parametrize(
    "leaves", [{"a": 1, "a/b": 2}, {"a/b": 1, "a": 2}, {"a//b": 1}, {"": 1}, {"a/": 1}]
)
def test_unflatten_refuses_contradictions(leaves):
    with pytest.raises(ValueError, match="unflatten"):
        trees.unflatten(leaves)


def test_compare_tells_every_misfit_with_both_shapes():
    found = {"a": (2, 3), "b": (4,), "x": (1,), "y": ()}
    wanted = {"a": (3, 2), "b": (4,), "c": (5,), "d": (6,)}
    misfits = trees.compare(found, wanted)
    assert misfits.missing == ("c", "d")
    assert misfits.surplus == ("x", "y")
    assert misfits.misshapen == (("a", (2, 3), (3, 2)),)
    text = str(misfits)
    assert all(part in text for part in ("2 missing: c, d", "2 surplus: x, y", "(2, 3)", "(3, 2)"))


def test_compare_of_equals_is_empty():
    assert str(trees.compare({"a": (1,)}, {"a": (1,)})) == ""
