"""Whose number decides in a batch: of all samples, of the one that moved most, of each alone."""

import dataclasses

import jax
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.pipeline import sample_keys
from tests.networks import random_params

MODEL = sd.create_model(
    "DiT-S/2", depth=4, hidden_size=16, num_heads=2, input_size=4, num_classes=5
)
PARAMS = random_params(MODEL)
STEPS, LABELS = 12, [1, 3, 4]
KEYS = sample_keys(jax.random.key(0), 0, len(LABELS))
POLICIES = {
    "first-block": sd.FirstBlockCache(threshold=1.05),
    "teacache": sd.TeaCache(threshold=0.8),
    "easycache": sd.EasyCache(threshold=0.5, first=2),
    "adacache": sd.AdaCache(codebook=((1.0, 4), (1.2, 3), (1.4, 2), (2.0, 1))),
    "seacache": sd.SeaCache(threshold=0.45),
}
POLICY = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())


def sampler(policy, over="mean", **how):
    cache = dataclasses.replace(policy, over=over)
    settings = {"steps": STEPS, "method": "ddim", "guidance": 3.0, "details": True}
    return sd.Sampler(MODEL, cache=cache, **{**settings, **how})


def alone(policy, number):
    one = slice(number, number + 1)
    return sampler(policy)(PARAMS, KEYS[one], LABELS[one])


@POLICY
def test_each_decides_as_if_it_were_alone(policy):
    drawn = sampler(policy, "each", taps=True)(PARAMS, KEYS, LABELS)
    assert drawn.kinds.trunk.shape == drawn.compared.shape == (len(LABELS), STEPS)
    for number in range(len(LABELS)):
        single = alone(policy, number)
        assert np.array_equal(drawn.kinds.trunk[number], single.kinds.trunk)
        np.testing.assert_allclose(drawn.compared[number], single.compared, rtol=1e-4)
        np.testing.assert_allclose(drawn.samples[number], single.samples[0], atol=1e-4)
    np.testing.assert_array_equal(drawn.taps.sample[-1], drawn.samples)
    assert drawn.taps.model_output.shape == (STEPS, len(LABELS), 4, 4, 8)
    assert len(np.unique(np.asarray(drawn.kinds.trunk), axis=0)) > 1, "all decide alike"


@POLICY
def test_rows_that_fill_a_batch_up_do_not_count(policy):
    single = alone(policy, 1)
    for over in ("mean", "max"):
        drawn = sampler(policy, over)
        counted = np.array([False, True, False])
        found = drawn(PARAMS, KEYS, LABELS, counted=counted)
        assert np.array_equal(found.kinds.trunk, single.kinds.trunk)
        np.testing.assert_allclose(found.compared, single.compared, rtol=1e-4)
        np.testing.assert_allclose(found.samples[1], single.samples[0], atol=1e-4)


@POLICY
def test_the_one_that_moved_most_decides(policy):
    """Until a step is reused, every sample is as it is alone."""
    singles = np.stack([alone(policy, number).compared for number in range(len(LABELS))])
    most, mean = (sampler(policy, over)(PARAMS, KEYS, LABELS).compared for over in ("max", "mean"))
    first = int(np.argmax(most > 0))  # the first that is looked at
    least, largest = singles[:, first].min(), singles[:, first].max()
    assert least < mean[first] < largest
    if isinstance(policy, sd.EasyCache):  # of two numbers the largest each: no less
        assert most[first] >= largest
    else:
        assert most[first] == pytest.approx(largest, rel=1e-4)


@pytest.mark.parametrize("counted", [[True], [1, 0, 1], [False] * 3])
def test_flags_that_are_none_are_refused(counted):
    with pytest.raises(ValueError, match=r"counted: found .* wanted 3 flags, one of them true"):
        sampler(POLICIES["teacache"])(PARAMS, KEYS, LABELS, counted=counted)


def test_an_interval_of_guidance_is_refused():
    with pytest.raises(ValueError, match=r"stands alone, wanted .* guidance at all steps"):
        sampler(POLICIES["teacache"], guidance=sd.Guidance(scale=3.0, interval=(200, 800)))
