"""Limits and hand-computed values of the Inception score."""

import numpy as np
import pytest

from skipdit_jax.evaluation.inception_score import inception_score

CERTAIN = 1e4  # a logit beside which all others have no probability


def random_logits(seed, count=60, classes=7):
    return np.random.default_rng(seed).normal(size=(count, classes)) * 2


def test_every_class_once_and_certain_is_the_number_of_classes():
    assert inception_score(np.eye(6) * CERTAIN) == (pytest.approx(6.0), 0.0)


@pytest.mark.parametrize("row", [np.zeros(5), np.arange(5.0), np.eye(5)[0] * CERTAIN])
def test_one_answer_for_all_is_one(row):
    assert inception_score(np.tile(row, (10, 1))).mean == pytest.approx(1.0, abs=1e-12)


def test_two_pictures_by_hand():
    # p = (3/4, 1/4), (1/4, 3/4): KL to (1/2, 1/2) is 3/4 log 3/2 + 1/4 log 1/2 for both
    logits = np.log([[3.0, 1.0], [1.0, 3.0]])
    want = np.exp(0.75 * np.log(1.5) + 0.25 * np.log(0.5))
    assert inception_score(logits).mean == pytest.approx(want, rel=1e-12)


def test_agrees_with_a_double_loop():
    logits = random_logits(0)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    whole = p.mean(axis=0)
    total = sum(q[k] * np.log(q[k] / whole[k]) for q in p for k in range(p.shape[1]))
    assert inception_score(logits).mean == pytest.approx(np.exp(total / len(p)), rel=1e-12)


def test_parts():
    logits = random_logits(1, count=23)
    alone = [inception_score(logits[a:b]).mean for a, b in ((0, 10), (10, 20), (20, 23))]
    found = inception_score(logits, every=10)
    assert found == (pytest.approx(np.mean(alone)), pytest.approx(np.std(alone)))
    alone = [inception_score(part).mean for part in np.split(logits, [5, 11, 17])]
    assert inception_score(logits, parts=4).mean == pytest.approx(np.mean(alone))


def test_order_within_a_part_and_a_constant_on_all_logits_do_not_matter():
    logits = random_logits(2)
    want = inception_score(logits).mean
    shuffled = np.random.default_rng(3).permutation(logits)
    assert inception_score(shuffled).mean == pytest.approx(want, rel=1e-12)
    assert inception_score(logits + 300).mean == pytest.approx(want, rel=1e-12)
    assert inception_score(logits.astype(np.float32)).mean == pytest.approx(want, rel=1e-6)


def test_less_sure_answers_score_less():
    logits = random_logits(4)
    scores = [inception_score(logits * scale).mean for scale in (1.0, 0.5, 0.1)]
    assert scores == sorted(scores, reverse=True)


def test_refusals():
    with pytest.raises(ValueError, match=r"inception_score: found shape \(0, 3\)"):
        inception_score(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="with N >= 5"):
        inception_score(np.zeros((4, 3)), parts=5)
    with pytest.raises(ValueError, match="NaN or infinite"):
        inception_score(np.full((4, 3), np.inf))
    for wrong in ({"every": 0}, {"parts": 0}):
        with pytest.raises(ValueError, match="wanted 1 or more"):
            inception_score(np.zeros((4, 3)), **wrong)
