"""Text as a condition: what may be given, what is said of the rest, the null, and dropping."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skipdit_jax.models.text_conditions import TextCondition, TextConditioning
from skipdit_jax.models.two_texts import TwoTexts, TwoTextsConditioning

PLAIN = TextConditioning(tokens=5, width=4, dropout=0.5)
SIZED = TextConditioning(tokens=5, width=4, pixels=(64, 128))
TEXT = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
MASK = np.array([[1, 1, 0], [1, 0, 0]])


def test_embeddings_alone_are_a_condition():
    made = PLAIN.prepare(TEXT.astype(np.float16), 2)
    assert made.text.dtype == jnp.float32
    assert (made.mask, made.size, made.null_text, made.null_mask) == (None,) * 4
    assert len(made) == 2


def test_a_mask_of_one_text_is_a_mask_of_both():
    made = PLAIN.prepare(TextCondition(TEXT, MASK, null_text=-TEXT), 2)
    assert np.array_equal(made.null_mask, np.ones((2, 3)))
    null = PLAIN.null(made)
    assert np.array_equal(null.text, -TEXT)
    assert np.array_equal(null.mask, made.null_mask)
    assert jax.tree.structure(null) == jax.tree.structure(made)


def test_without_a_negative_text_the_null_is_zeros_of_which_all_are_seen():
    null = PLAIN.null(PLAIN.prepare(TextCondition(TEXT, MASK), 2))
    assert not np.any(null.text)
    assert np.all(null.mask == 1)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, r"text: found None, wanted embeddings \(2, tokens, 4\)"),
        ("a dog", "text: found 'a dog', wanted embeddings"),
        (TEXT[:1], r"text: found shape \(1, 3, 4\), wanted embeddings \(2, tokens, 4\)"),
        (TEXT[..., :3], r"text: found shape \(2, 3, 3\)"),
        (TextCondition(TEXT, MASK[:, :2]), r"text mask: found shape \(2, 2\), wanted \(2, 3\)"),
        (TextCondition(TEXT, null_text=TEXT[:, :2]), r"negative text: found shape \(2, 2, 4\)"),
        (TextCondition(TEXT, size=[[8, 8]] * 2), "size: the model knows no sizes, wanted none"),
    ],
)
def test_other_things_are_told_in_one_line(given, told):
    with pytest.raises(ValueError, match=told) as caught:
        PLAIN.prepare(given, 2)
    assert "\n" not in str(caught.value)


def test_sizes_are_those_of_the_samples_or_as_given():
    made = SIZED.prepare(TEXT, 2)
    assert made.size.tolist() == [[64, 128, 0.5]] * 2
    own = SIZED.prepare(TextCondition(TEXT, size=[[8, 2], [8, 8]]), 2)
    assert own.size.tolist() == [[8, 2, 4], [8, 8, 1]]
    ratio = np.array([[768, 1344, 0.57]] * 2)  # as the table of sizes of PixArt rounds it
    kept = SIZED.prepare(TextCondition(TEXT, size=ratio), 2)
    np.testing.assert_array_equal(kept.size, ratio.astype(np.float32))
    with pytest.raises(ValueError, match=r"size: found shape \(2,\), wanted \(2, 3\)"):
        SIZED.prepare(TextCondition(TEXT, size=[8, 8]), 2)


def test_training_drops_whole_texts_with_those_of_their_images():
    batch = {"text": jnp.ones((64, 2, 3, 4)), "text_mask": jnp.zeros((64, 2, 3))}
    condition = PLAIN.of_batch(batch)
    dropped = PLAIN.drop(jax.random.key(0), condition)
    share = np.asarray(dropped.text).mean(axis=(1, 2, 3))
    assert set(share.tolist()) == {0.0, 1.0}
    assert 0.2 < share.mean() < 0.8
    assert np.array_equal(np.asarray(dropped.mask)[:, 0, 0], 1 - share)
    never = dataclasses.replace(PLAIN, dropout=0.0)
    assert never.drop(jax.random.key(0), condition) is condition


def test_a_dropped_text_is_the_empty_caption_that_guidance_starts_from():
    rng = np.random.default_rng(0)
    text, null = rng.normal(size=(64, 3, 4)), rng.normal(size=(3, 4))
    mask, null_mask = np.tile([1.0, 1, 0], (64, 1)), np.array([1.0, 0, 0])
    batch = {"text": text, "text_mask": mask, "null_text": null, "null_text_mask": null_mask}
    batch = {key: jnp.asarray(value, jnp.float32) for key, value in batch.items()}
    condition = PLAIN.of_batch(batch)
    guided = PLAIN.null(condition)
    dropped = PLAIN.drop(jax.random.key(0), condition)
    chosen = np.asarray(dropped.text == guided.text).all((1, 2))
    assert 0.2 < chosen.mean() < 0.8
    for found, own, other in (
        (dropped.text, text, null),
        (dropped.mask, mask, null_mask),
    ):
        rows = chosen.reshape(-1, *(1,) * (own.ndim - 1))
        np.testing.assert_array_equal(found, np.float32(np.where(rows, other, own)))
    assert dropped.null_text is dropped.null_mask is None  # nothing more for the network to carry
    own_mask = PLAIN.of_batch({k: v for k, v in batch.items() if k != "null_text_mask"})
    np.testing.assert_array_equal(PLAIN.null(own_mask).mask, mask)


def test_a_batch_without_texts_is_told():
    with pytest.raises(ValueError, match="batch: found label, wanted text"):
        PLAIN.of_batch({"label": jnp.zeros(2)})


def test_examples_are_what_prepare_gives():
    prepared = SIZED.prepare(np.zeros((2, 5, 4)), 2)
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), prepared)
    assert jax.tree.leaves(SIZED.examples(2)) == jax.tree.leaves(shapes)


def test_guidance_concatenates_leaf_by_leaf():
    made = SIZED.prepare(TextCondition(TEXT, MASK, null_text=-TEXT), 2)
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), made, SIZED.null(made))
    assert len(both) == 4
    assert np.array_equal(both.text, np.concatenate([TEXT, -TEXT]))
    assert np.array_equal(both.size[:2], both.size[2:])


BOTH = TwoTextsConditioning(
    TextConditioning(3, 4, 0.5), TextConditioning(2, 5, 0.5), pixels=(64, 128), styled=True
)
PAIR = TwoTexts(TextCondition(TEXT), TextCondition(np.ones((2, 2, 5)), [[1, 0]] * 2))


def test_two_texts_get_the_published_size_and_style():
    made = BOTH.prepare(PAIR, 2)
    assert made.size.tolist() == [[1024, 1024, 128, 64, 0, 0]] * 2
    assert made.style.tolist() == [0, 0]
    null = BOTH.null(made)
    assert not np.any(null.bert.text)
    assert np.all(null.t5.mask == 1)
    assert jax.tree.structure(null) == jax.tree.structure(made)
    shapes = jax.tree.map(
        lambda a: a.shape, BOTH.prepare(TwoTexts(PAIR.bert, TextCondition(PAIR.t5.text)), 2)
    )
    assert shapes == jax.tree.map(lambda a: a.shape, BOTH.examples(2))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (TEXT, "text: found ndarray, wanted TwoTexts of both encoders"),
        (TwoTexts(PAIR.t5, PAIR.bert), r"text: found shape \(2, 2, 5\), wanted embeddings"),
        (TwoTexts(TextCondition(TEXT[:, :2]), PAIR.t5), "text of BERT: found 2 tokens, wanted 3"),
        (TwoTexts(PAIR.bert, PAIR.t5, size=[[1, 2]] * 2), r"size: found \(2, 2\), wanted \(2, 6"),
        (TwoTexts(PAIR.bert, PAIR.t5, style=[0]), r"style: found shape \(1,\), wanted \(2,\)"),
    ],
)
def test_other_pairs_are_told_in_one_line(given, told):
    with pytest.raises(ValueError, match=told) as caught:
        BOTH.prepare(given, 2)
    assert "\n" not in str(caught.value)


def test_training_drops_both_texts_together():
    batch = {"text": jnp.ones((64, 3, 4)), "text_t5": jnp.ones((64, 2, 5))}
    dropped = BOTH.drop(jax.random.key(0), BOTH.of_batch(batch))
    bert, t5 = (np.asarray(one.text)[:, 0, 0] for one in (dropped.bert, dropped.t5))
    assert np.array_equal(bert, t5)
    assert set(bert.tolist()) == {0.0, 1.0}
