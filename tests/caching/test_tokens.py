"""Choosing tokens: published budgets, limits that are other methods, buckets, draws, frames."""

import dataclasses
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.caching import buckets, tokens
from skipdit_jax.caching.plan import Run, Tokens
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.pipeline import sample_keys
from tests.caching.test_methods import off
from tests.caching.toys import Kind, draw, run_of
from tests.networks import random_params

PAIR = ("attn", "mlp")
# Where layers are computed whole in 50 steps (F), as published: the first, all behind it.
FIRST = "FTTTFFTTTFTTTFTTTFTFTTFTTFTTFTTFTFTFTFTFTFTFTFTFTF"
OTHERS = "FTTTTFTTTFTTTFTTTTTFTTFTTFTTFTTFTFTFTFTFTFTFTFTFTF"
TERA = 1e12
ROUNDING = 1e-5  # of products of other sizes


def letters(flags):
    return "".join("TF"[int(flag)] for flag in flags)


def test_published_steps_and_flops():
    """10.23 TFLOP of ToCa and 9.58 of DuCa for one picture are published: arXiv 2412.18911."""
    model = sd.create_model("DiT-XL/2")
    how = {"steps": 50, "guidance": 1.5}
    toca = sd.Sampler(model, cache="toca", **how)
    computed = toca.plan.computed()
    assert letters(computed[:, 0]) == letters(computed[:, 1]) == FIRST
    assert letters(computed[:, 2]) == letters(computed[:, -1]) == OTHERS
    for sampler, published in ((toca, 10.23), (sd.Sampler(model, cache="duca", **how), 9.58)):
        told = sampler.summary(1)
        chosen = (told.flops - told.cached_steps * told.surplus_flops) / TERA
        assert abs(chosen - published) < 0.03
        assert published < told.flops / TERA < published + 0.2
        assert f"{chosen:.4g} of them" in str(told)
    rows = 2 * 256  # the state by formula: two updates of a block, worth and age of its tokens
    assert told.cache_bytes == 4 * rows * (28 * (2 * 1152 + 2) + 1152)


def test_no_mixed_steps_where_they_are_off():
    flags, _ = sd.ToCa(mixed=False).computed(50, 28)
    assert (flags == flags[:, :1]).all()
    assert letters(flags[:, 0]) == FIRST


@pytest.mark.parametrize("every", [2, 3, 5])
def test_no_tokens_is_fora(every):
    none = draw(Kind(), sd.ToCa(interval=every, ratio=0.0))
    fora = draw(Kind(), sd.Fora(every=every))
    assert np.array_equal(none.plan.computed(), fora.plan.computed())
    assert off(none.taps.sample, fora.taps.sample) <= ROUNDING


def masks_of(run, full):
    """Attention where a layer is whole, MLPs at every step, as a method that lists both."""
    lists, names = {}, [name for name in run.sublayers if name in tokens.SCORED_BY]
    for layer, column in enumerate(full.T):
        stage, mlp = layer // len(names), names[layer % len(names)]
        lists[f"{tokens.SCORED_BY[mlp]}-{stage}"] = column.astype(int).tolist()
        lists[f"{mlp}-{stage}"] = np.ones_like(column, int).tolist()
    return sd.SmoothCache.of(lists)


@pytest.mark.parametrize("mixed", [True, False])
def test_all_tokens_are_all_mlps_computed(mixed):
    policy = sd.ToCa(interval=4, ratio=100.0, budget="ddpm250", mixed=mixed)
    full, _ = policy.computed(6, 4)
    every = draw(Kind(), masks_of(run_of(Kind(), 6), full))
    assert (~full).any()
    assert off(draw(Kind(), policy).taps.sample, every.taps.sample) <= ROUNDING


@lru_cache
def tiny(name, **changes):
    sizes = {"depth": 4, "hidden_size": 32, "num_heads": 2, "input_size": 8, "num_classes": 5}
    model = sd.create_model(name, **{**sizes, **changes})
    return model, random_params(model)


def sampled(model, params, cache, rows=2, first=0, seed=1, steps=12):
    sampler = sd.Sampler(model, steps=steps, method="ddim", guidance=2.0, cache=cache)
    labels = np.arange(first, first + rows) % model.config.num_classes
    return np.asarray(sampler(params, sample_keys(jax.random.key(seed), first, rows), labels))


@pytest.mark.parametrize("method", [sd.ToCa, sd.DuCa])
def test_results_do_not_depend_on_the_number_of_buckets(method):
    model, params = tiny("DiT-S/2", depth=2)
    policies = [method(interval=4, ratio=0.2, buckets=n) for n in (1, 2, 8)]
    made = [sampled(model, params, policy) for policy in policies]
    assert off(made[1], made[0]) <= ROUNDING
    assert off(made[2], made[0]) <= ROUNDING


def test_random_tokens_have_a_stream_of_their_own():
    """They depend on a sample's own key, on no neighbour, and leave the sampler's draws alone."""
    model, params = tiny("DiT-S/2", depth=2)
    policy = sd.ToCa(interval=4, ratio=0.2, score="random")
    both = sampled(model, params, policy)
    assert np.array_equal(sampled(model, params, policy), both)
    assert off(sampled(model, params, policy, rows=1, first=1), both[1:]) <= ROUNDING
    assert off(sampled(model, params, policy, seed=2), both) > ROUNDING
    assert off(sampled(model, params, dataclasses.replace(policy, age=0.0, bonus=0.0)), both) > 0


def test_both_halves_draw_the_same():
    keys = sample_keys(jax.random.key(0), 0, 2)
    found = np.asarray(tokens.draw(jnp.concatenate([keys, keys]), 3, 5, (4, 16)))
    assert np.array_equal(found[:2], found[2:])
    others = [tokens.draw(keys, 4, 5, (4, 16)), tokens.draw(keys, 3, 4, (4, 16)), found[1:2]]
    assert all(not np.array_equal(other[0], found[0]) for other in others)


def test_clips_choose_in_each_frame():
    """Budgets of N tokens a frame, spatial and temporal blocks as layers in a row."""
    model, params = tiny("Latte-S/2", num_frames=3)
    how = {"interval": 4, "budget": "ddpm250"}
    sampler = sd.Sampler(model, steps=12, method="ddim", guidance=2.0, cache=sd.ToCa(**how))
    tall = sampler.plan.rows.sub.tokens.chosen.reshape(12, 2, 2, 2)
    assert (tall[..., 0] == 0).all()
    assert np.array_equal(tall[..., 1].reshape(12, 4), sd.ToCa(**how).counts(12, 4, 16))
    policy = sd.ToCa(**how, ratio=100.0)
    run = Run(np.arange(12)[::-1], 2, 0, ("attn", "mlp", "tattn", "tmlp"))
    every = masks_of(run, policy.computed(12, 4)[0])
    want = sampled(model, params, every)
    assert off(sampled(model, params, policy), want) <= ROUNDING
    few = [sampled(model, params, sd.ToCa(**how, ratio=0.2, buckets=n)) for n in (1, 8)]
    assert off(few[1], few[0]) <= ROUNDING
    assert off(few[0], want) > 1e-3


@pytest.mark.parametrize("grid", [(4, 6), (3, 5), (1, 4), (5, 2)])
def test_the_best_of_each_square_gets_the_bonus(grid):
    rows, columns = grid
    score = np.random.default_rng(0).standard_normal((2, 3, rows, columns)).astype(np.float32)
    score[0, 0, 0, :2] = 9.0  # the first of equal ones
    want = score.copy()
    for place in np.ndindex(2, 3):
        for top in range(0, rows, 2):
            for left in range(0, columns, 2):
                square = want[place][top : top + 2, left : left + 2]
                square[np.unravel_index(square.argmax(), square.shape)] *= 1.5
    how = Tokens((), grid, "attention")
    got = tokens.with_bonus(jnp.asarray(score.reshape(2, 3, -1)), how, np.float32(1.5))
    np.testing.assert_allclose(got, want.reshape(2, 3, -1), rtol=1e-6)


def test_surplus_tokens_are_dropped():
    score = jnp.asarray([[3.0, 1.0, 4.0, 1.0, 5.0], [1.0, 1.0, 1.0, 1.0, 0.0]])
    assert tokens.choose_tokens(score, 2, 4).tolist() == [[4, 2, 7, 8], [0, 1, 7, 8]]
    values = tokens._scattered(
        jnp.zeros((2, 5)), tokens.choose_tokens(score, 3, 4), jnp.ones((2, 4))
    )
    assert values.tolist() == [[1, 0, 1, 0, 1], [1, 1, 1, 0, 0]]


def test_buckets_compute_the_least():
    """Against every way to cut a few steps."""
    counts = np.random.default_rng(0).integers(0, 50, (7, 1)) * np.array([[1, 3]])
    ordered = np.sort(counts[:, 0])

    def least(steps, groups):
        if not len(steps) or groups == 0:
            return 0 if not len(steps) else np.inf
        ends = range(len(steps))
        return min(len(steps[b:]) * steps[-1] * 4 + least(steps[:b], groups - 1) for b in ends)

    for number in (1, 2, 3, 7, 9):
        found = buckets.in_buckets(counts, number)
        assert sorted(np.concatenate(found)) == list(range(7))
        assert len(found) <= number
        cost = sum(len(g) * counts[g].max(axis=0).sum() for g in found)
        assert cost == least(ordered, number)


def test_settings_that_mean_nothing_are_told_in_a_line():
    for settings, told in (
        ({"interval": 0}, "ToCa: interval is 0, wanted 1 or more"),
        ({"ratio": -1.0}, "ToCa: ratio is -1.0, wanted 0 or more"),
        ({"score": "best"}, "ToCa: score is 'best', wanted attention or values or random"),
        ({"budget": "x"}, "ToCa: budget is 'x', wanted ddim50 or ddpm250"),
    ):
        with pytest.raises(ValueError, match=told):
            sd.ToCa(**settings)
    timesteps = Diffusion(spacing="6").timesteps[::-1]
    with pytest.raises(ValueError, match="without `token_grid`"):
        sd.ToCa().plan(Run(timesteps, 4, 0, PAIR))
    with pytest.raises(ValueError, match="found sub-layers none in the model"):
        sd.ToCa().plan(Run(timesteps, 4, 0))
