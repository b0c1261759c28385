"""Sampling is a pure function: it composes with jit, grad, vmap and export, and traces its data."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.sampling import progress
from tests.networks import random_params

LABELS = [3, 1]
# Machine code that is not optimised is made in a fraction of the time.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
STEPS = 2
SETTINGS = {"steps": STEPS, "method": "ddim", "cache": sd.BlockCache(every=2, front=0, back=0)}
ROUNDING = 2e-6  # of the largest: another program around the same loop is fused in other ways


def assert_same(found, wanted):
    assert np.max(np.abs(found - wanted)) <= ROUNDING * np.max(np.abs(wanted))


@pytest.fixture(scope="module")
def model():
    return sd.create_model(
        "DiT-S/2", depth=1, hidden_size=8, num_heads=1, input_size=2, num_classes=5
    )


@pytest.fixture(scope="module")
def params(model):
    return jax.tree.map(jnp.asarray, random_params(model))


@pytest.fixture(scope="module")
def draw(model):
    """(parameters, key, labels, scale, x) -> samples of the settings above."""

    def draw(params, key, labels, scale=3.0, x=None):
        return sd.sample(model, params, key, labels, guidance=scale, x=x, **SETTINGS)

    return draw


@pytest.fixture(scope="module")
def right(draw, params):
    return np.asarray(draw(params, jax.random.key(7), LABELS))


def test_jit_and_export_with_everything_traced(draw, params, right):
    """Parameters, seed, labels and scale."""

    def by_seed(params, seed, labels, scale):
        return draw(params, jax.random.key(seed), labels, scale)

    given = params, np.uint32(7), np.array(LABELS), np.float32(3.0)
    exported = jax.export.export(jax.jit(by_seed))(*given)
    assert_same(exported.call(*given), right)
    # A scale of at most 1 is none, traced or not.
    alone = exported.call(*given[:3], np.float32(0.5))
    assert_same(alone, draw(params, jax.random.key(7), LABELS, 1.0))


def test_gradients_are_those_of_small_differences(draw, params):
    """With respect to the start, the scale and the weights, all finite."""
    x = np.random.default_rng(1).standard_normal((2, 2, 2, 4), np.float32)

    def loss(params, x, scale):
        return jnp.mean(jnp.square(draw(params, jax.random.key(7), LABELS, scale, x)))

    both = jit(jax.value_and_grad(loss, (0, 1, 2)))
    value, (of_params, of_x, of_scale) = both(params, x, 3.0)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(of_params)]
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert all(leaf.any() for leaf in leaves)
    step = np.float32(1e-2)
    towards = np.asarray(of_x) / np.linalg.norm(of_x)
    ahead, behind = (both(params, x + s * towards, 3.0)[0] for s in (step, -step))
    np.testing.assert_allclose((ahead - behind) / (2 * step), np.vdot(towards, of_x), rtol=2e-2)
    ahead, behind = (both(params, x, 3.0 + s)[0] for s in (1e-2, -1e-2))
    np.testing.assert_allclose((ahead - behind) / (2 * step), of_scale, rtol=2e-2)


def test_vmap_over_keys_and_labels_is_one_call_after_another(draw, params, right):
    keys, labels = jax.random.split(jax.random.key(7)), np.array([LABELS, [0, 4]])
    many = jit(jax.vmap(draw, in_axes=(None, 0, 0)))(params, keys, labels)
    assert many.shape == (2, *right.shape)
    for row, key, given in zip(many, keys, labels, strict=True):
        assert_same(row, draw(params, key, given))


def test_traced_labels_are_checked_for_their_shape(draw, params):
    with pytest.raises(ValueError, match=r"labels: found .*float32.*, wanted 2 whole numbers"):
        jax.eval_shape(lambda y: draw(params, jax.random.key(7), y), jnp.ones(2))


def test_another_callback_compiles_nothing_and_is_forgotten(model, params):
    from skipdit_jax.pipeline.program import sampling_run as _run

    told, programs = [], set()
    for seed in range(3):
        sd.sample(
            model,
            params,
            jax.random.key(seed),
            LABELS,
            **SETTINGS,
            progress=lambda index, seed=seed: told.append((seed, int(index))),
        ).block_until_ready()
        jax.effects_barrier()
        programs.add(_run._cache_size())
    assert len(programs) == 1
    assert sorted(told) == [(seed, index) for seed in range(3) for index in range(STEPS)]
    assert not progress._listening


def test_a_callback_inside_a_program_of_the_caller_is_told_every_time(model, params):
    told = []
    settings = {**SETTINGS, "progress": lambda index: told.append(int(index))}
    run = jit(lambda key: sd.sample(model, params, key, LABELS, **settings))
    for seed in range(2):
        run(jax.random.key(seed)).block_until_ready()
        jax.effects_barrier()
    assert sorted(told) == [0, 0, 1, 1]
    progress._listening.clear()
