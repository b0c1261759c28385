"""Labels as a condition: what may be given, what is said of the rest, and the null."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skipdit_jax.models.conditions import ClassConditioning, JointLabels

TEN = ClassConditioning(10, 0.1)
NONE = ClassConditioning(0)


@pytest.mark.parametrize("given", [[3, 0, 9], (3, 0, 9), np.array([3, 0, 9], np.uint8)])
def test_whole_numbers_become_int32(given):
    labels = TEN.prepare(given, 3)
    assert labels.dtype == jnp.int32
    assert labels.tolist() == [3, 0, 9]


@pytest.mark.parametrize(
    ("given", "rows", "told"),
    [
        (None, 2, "labels: none given, wanted 2 numbers from 0 to 9"),
        ([1], 2, r"labels: found \[1\], wanted 2 whole numbers"),
        ([1.0, 2.0], 2, r"labels: found \[1.0, 2.0\], wanted 2 whole numbers"),
        ([1, 10], 2, r"labels: \[10\] outside 0..9"),
        ([-1, 2], 2, r"labels: \[-1\] outside 0..9"),
    ],
)
def test_other_things_are_told(given, rows, told):
    with pytest.raises(ValueError, match=told):
        TEN.prepare(given, rows)


def test_a_model_without_classes_takes_none():
    assert NONE.prepare(None, 4) is None
    assert NONE.null(None) is None
    assert NONE.drop(jax.random.key(0), None) is None
    assert NONE.examples(4) is None
    assert NONE.of_batch({"label": jnp.zeros(2, jnp.int32)}) is None
    with pytest.raises(ValueError, match="labels: the model is unconditional, wanted none"):
        NONE.prepare([1], 1)


def test_the_null_is_the_class_behind_the_last():
    assert TEN.null(TEN.prepare([3, 4], 2)).tolist() == [10, 10]


@pytest.mark.parametrize(
    ("kind", "has_null"),
    [(TEN, True), (ClassConditioning(10, 0.0), False), (ClassConditioning(0, 0.1), False)],
)
def test_only_training_without_labels_makes_a_null(kind, has_null):
    assert kind.has_null is has_null


def test_images_behind_clips_are_found_in_a_batch_also_without_classes():
    batch = {"label": jnp.zeros(2, jnp.int32), "image_labels": jnp.ones((2, 3), jnp.int32)}
    for kind in (TEN, NONE):
        found = kind.of_batch(batch)
        assert isinstance(found, JointLabels)
        assert found.images.shape == (2, 3)


def test_examples_are_what_prepare_gives():
    prepared = TEN.prepare([1, 2], 2)
    assert TEN.examples(2) == jax.ShapeDtypeStruct(prepared.shape, prepared.dtype)
