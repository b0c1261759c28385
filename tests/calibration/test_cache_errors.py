"""Foretold errors of a cache beside those it makes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.calibration.cache_errors import CacheErrors, lists_of, measure_cache_errors
from skipdit_jax.pipeline import sample_keys

STEPS = 12
LISTS = ((0, 2, 4, 6, 8, 10), (0, 4, 8), (0, 1, 5, 7))
WEIGHT = 0.02  # of what the network sees: features drift as little
POLICY = "block-cache(every=2, front=1, back=1)"


def one_number():
    """A network of one number: every direction of a result is it or its opposite."""
    return sd.own_model(
        init=lambda key: {"weight": jnp.zeros(())},
        embed=lambda params, x, t, condition: (params["weight"] * x.reshape(-1, 1, 1), None),
        stage=lambda params, u, h, c, seam: h + 0.5 * jnp.tanh(h),
        head=lambda params, h, c: h.reshape(-1, 1, 1, 1),
        sample_shape=(1, 1, 1),
        conditioning=sd.ClassConditioning(0, dropout=0.0),
        costs=sd.Costs(stage=1, fuse=0, num_stages=4, num_skips=0),
    )


def samplers(model):
    def cached(policy):
        return sd.Sampler(model, steps=STEPS, method="ddim", clip=False, cache=policy)

    return cached("none"), cached


def test_small_errors_are_as_foretold():
    model, params = one_number(), {"weight": jnp.float32(WEIGHT)}
    uncached, cached = samplers(model)
    keys = sample_keys(jax.random.key(0), 0, 8)
    batches = [(keys[:4], None), (keys[4:], None)]
    policy = cached(POLICY).cache
    found = measure_cache_errors(uncached, cached, policy, params, batches, LISTS)
    assert (found.measured > 0).all()
    np.testing.assert_allclose(found.predicted, found.measured, rtol=0.1)
    assert found.correlation == pytest.approx(np.corrcoef(found.predicted, found.measured)[0, 1])
    wanted = np.asarray(uncached(params, keys), np.float64)
    for full, rms in zip(LISTS, found.measured, strict=True):
        away = (
            np.asarray(cached(f"block-cache(front=1, back=1, full={full})")(params, keys)) - wanted
        )
        assert rms == pytest.approx(np.sqrt((away**2).mean()), rel=1e-5)


def test_lists_are_even_and_at_random():
    found = lists_of(20, (2, 5), 6, 0)
    assert found[:2] == (tuple(range(0, 20, 2)), (0, 5, 10, 15))
    assert [len(full) for full in found[2:]] == [10, 4] * 3
    assert len({*found}) == 8
    for full in found:
        assert full[0] == 0
        assert list(full) == sorted({*full})
        assert full[-1] < 20
    assert found == lists_of(20, (2, 5), 6, 0) != lists_of(20, (2, 5), 6, 1)


@pytest.mark.parametrize(("every", "told"), [((), "none"), ((1,), r"\[1\]"), ((3, 21), "21")])
def test_lists_that_compare_nothing(every, told):
    with pytest.raises(ValueError, match=f"^calibration: found every .*{told}"):
        lists_of(20, every, 0, 0)


def test_fewer_than_two_lists_have_no_correlation():
    assert CacheErrors(LISTS[:1], np.ones(1), np.ones(1)).correlation is None
    assert CacheErrors(LISTS[:2], np.ones(2), np.arange(2.0)).correlation is None


def test_a_ratio_is_of_lists_that_err():
    assert CacheErrors(LISTS, np.array([1.0, 2.0, 9.0]), np.array([0.0, 1.0, 3.0])).ratio == 2.5
    assert CacheErrors(LISTS[:1], np.ones(1), np.zeros(1)).ratio is None
