"""Guidance: the mix, its interval, and the work it saves when it is off."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.sampling.guidance import mix
from tests.networks import random_params

COND, UNCOND = 3.0, 1.0


def test_mix_by_hand():
    doubled = jnp.stack([jnp.full((1, 2, 4), COND), jnp.full((1, 2, 4), UNCOND)]).reshape(
        2, 1, 2, 4
    )
    out = mix(doubled, jnp.float32(4.0), 3)
    assert np.unique(out[..., :3]).tolist() == [UNCOND + 4 * (COND - UNCOND)]
    assert np.unique(out[..., 3:]).tolist() == [COND]


def test_interval_by_hand():
    guidance = sd.Guidance(scale=4.0, interval=(100, 600))
    scales = guidance.scales(np.array([900, 600, 300, 100, 50]))
    assert scales.tolist() == [1.0, 4.0, 4.0, 4.0, 1.0]


@pytest.fixture(scope="module")
def small():
    model = sd.create_model(
        "DiT-S/2-skip", depth=4, hidden_size=16, num_heads=2, input_size=4, num_classes=5
    )
    return model, random_params(model)


def draw(small, guidance):
    model, params = small
    return sd.sample(
        model, params, jax.random.key(1), [1, 2], steps=3, guidance=guidance, clip=True
    )


def test_scale_one_is_no_guidance(small):
    """Also when the interval excludes every step: the doubled batch then gives the condition's."""
    off = draw(small, 1.0)
    assert np.array_equal(draw(small, 0.5), off)
    outside = sd.Guidance(scale=4.0, interval=(5000, 6000))
    np.testing.assert_allclose(draw(small, outside), off, atol=1e-4)
    assert np.abs(np.asarray(draw(small, 4.0)) - np.asarray(off)).max() > 0


def test_no_guidance_is_half_the_work(small):
    model, _ = small
    one, two = (sd.Sampler(model, steps=3, guidance=g).summary(2) for g in (1.0, 4.0))
    assert two.flops == 2 * one.flops


INTERVAL = (300.0, 700.0)
STEPS = 6


def sampler_of(small, interval, **options):
    guidance = sd.Guidance(scale=4.0, interval=interval)
    return sd.Sampler(small[0], steps=STEPS, method="ddim", guidance=guidance, clip=True, **options)


def test_outside_the_interval_the_condition_runs_alone(small):
    inside = sampler_of(small, INTERVAL)
    guided = inside.plan.kinds.guide == 1
    assert 0 < guided.sum() < STEPS
    whole = sampler_of(small, None).summary(2).flops
    assert inside.summary(2).flops == whole * (STEPS + guided.sum()) / (2 * STEPS)


def test_the_half_left_out_changes_nothing_but_rounding(small):
    """Against both halves at every step, mixed with a scale of 1 outside the interval."""
    _, params = small
    keys = sd.pipeline.sample_keys(jax.random.key(3), 0, 2)
    halves = sampler_of(small, INTERVAL)(params, keys, [1, 2])
    both = sampler_of(small, None)
    both.inputs = both.inputs._replace(scale=sampler_of(small, INTERVAL).inputs.scale)
    np.testing.assert_allclose(halves, both(params, keys, [1, 2]), atol=1e-4)
    assert not np.array_equal(halves, sampler_of(small, None)(params, keys, [1, 2]))


@pytest.mark.parametrize("cache", ["N3", "fora:3", "taylor:3:1"])
def test_a_half_that_enters_begins_anew(small, cache):
    """It has nothing of the past to reuse: its first step is computed, whatever the plan says."""
    _, params = small
    sampler = sampler_of(small, INTERVAL, cache=cache, details=True)
    guide = sampler.plan.kinds.guide
    (entry,) = np.flatnonzero(np.diff(guide) == 1) + 1
    trunk, sub = sampler.plan.kinds[1:]
    assert (trunk if sub is None else sub)[entry] == 1
    found = sampler(params, sd.pipeline.sample_keys(jax.random.key(3), 0, 2), [1, 2])
    assert np.isfinite(found.samples).all()
    jax.tree.map(np.testing.assert_array_equal, found.kinds, sampler.plan.kinds)


def test_details_change_no_sample(small):
    model, params = small
    options = {"steps": 4, "guidance": 2.0, "cache": "N2", "method": "ddim"}
    plain = sd.sample(model, params, jax.random.key(1), [1, 2], **options)
    told = sd.sample(model, params, jax.random.key(1), [1, 2], **options, details=True, taps=True)
    assert np.array_equal(plain, told.samples)
    assert told.kinds.trunk.tolist() == [1, 0, 1, 0]
    assert told.compared is None
    assert np.array_equal(told.taps.sample[-1], plain)


def test_guidance_needs_the_null_class():
    model = sd.create_model("DiT-S/2", depth=2, hidden_size=16, num_heads=2, num_classes=0)
    with pytest.raises(ValueError, match="label dropout"):
        sd.Sampler(model, steps=3, guidance=2.0)


@pytest.mark.parametrize(
    "bad", [{"scale": float("nan")}, {"scale": -1.0}, {"channels": 0}, {"interval": (5, 1)}]
)
def test_bad_settings(bad):
    with pytest.raises(ValueError, match="guidance"):
        sd.Guidance(**bad)
