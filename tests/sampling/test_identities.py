"""What must hold for every family: caching limits, drivers, independence of calls and batches.

A new family is one line in FAMILIES.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.pipeline import sample_keys
from tests.networks import condition_for, random_params

STEPS = 3
SMALL = {"hidden_size": 16, "num_heads": 2, "input_size": 4, "num_classes": 5}
TEXT = {"hidden_size": 24, "num_heads": 2, "input_size": 4, "depth": 4, "text_width": 8}
TWO_TEXTS = {
    **{"hidden_size": 16, "num_heads": 2, "depth": 6, "text_width": 8, "text_tokens": 3},
    **{"t5_width": 8, "t5_tokens": 4, "pooled_width": 8},
}
FAMILIES = {
    "DiT": ("DiT-S/2-skip", {**SMALL, "depth": 4}),
    "DiT, wide, fixed variance, unconditional": (
        "DiT-S/2-skip",
        {**SMALL, "depth": 4, "input_size": (4, 8), "learn_sigma": False, "num_classes": 0},
    ),
    "DiT, bfloat16": ("DiT-S/2-skip", {**SMALL, "depth": 4, "dtype": "bfloat16"}),
    "Latte": ("Latte-S/2-skip", {**SMALL, "depth": 8, "num_frames": 3}),
    "PixArt": ("PixArt-S/2-skip", {**TEXT, "size_condition": True}),
    "HunYuan-DiT": ("HunYuan-DiT-g/2", {**TWO_TEXTS, "input_size": (4, 8)}),
    "LatteT2V": ("LatteT2V-S/2-skip", {**TEXT, "num_frames": 3}),
}


SLOW = ("PixArt", "HunYuan-DiT", "LatteT2V")  # to compile; one test of the last is always run
EACH = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in FAMILIES]


def make_case(family):
    """(model, parameters without zeros, what it is conditioned on)."""
    name, overrides = FAMILIES[family]
    model = sd.create_model(name, **overrides)
    return model, random_params(model), condition_for(model)


@pytest.fixture(scope="module", params=EACH)
def case(request):
    return make_case(request.param)


def draw(case, seed=2, **options):
    model, params, labels = case
    # Without noise in the loop the programs compile twice as fast; test_seeds_differ has noise.
    options = {"steps": STEPS, "num_samples": 2, "clip": True, "method": "ddim", **options}
    return np.asarray(sd.sample(model, params, jax.random.key(seed), labels, **options))


@pytest.mark.parametrize("driver", ["scan", "nested", "unrolled"])
def test_every_step_full_equals_no_cache_bit_for_bit(case, driver):
    never = draw(case, cache=sd.SkipCache(every=1, branch=1), driver=driver)
    assert np.array_equal(never, draw(case, driver=driver))
    assert np.isfinite(never).all()


def test_drivers_agree(case):
    # The residual cache is the same engine with another target: one family shows it.
    cache = sd.SkipCache(every=2) if case[2] is None else sd.BlockCache(every=2)
    scan, nested, unrolled = (draw(case, cache=cache, driver=d) for d in DRIVERS)
    tolerance = BFLOAT16 if case[0].config.dtype == "bfloat16" else FLOAT32
    np.testing.assert_allclose(nested, scan, atol=tolerance)
    np.testing.assert_allclose(unrolled, scan, atol=tolerance)
    assert np.abs(scan - draw(case)).max() > 0, "the cache changed nothing"


DRIVERS = ("scan", "nested", "unrolled")
FLOAT32 = 1e-4  # samples are clipped to about 1; other fusions round differently
BFLOAT16 = 0.1


def test_calls_never_influence_each_other(case):
    cache = sd.SkipCache(every=3)
    first = draw(case, cache=cache)
    draw(case, seed=5, cache=cache)
    assert np.array_equal(draw(case, cache=cache), first)


def test_seeds_differ(case):
    one, two = (draw(case, seed=seed, method="ddpm") for seed in (2, 5))
    assert np.abs(one - two).max() > 0
    assert np.array_equal(draw(case, method="ddpm"), one)


def test_a_sample_does_not_depend_on_its_batch(case):
    model, params, labels = case
    sampler = sd.Sampler(model, steps=STEPS, clip=True, method="ddpm")
    key = jax.random.key(2)
    alone = sampler(params, sample_keys(key, 1, 1), jax.tree.map(lambda leaf: leaf[1:], labels))
    tolerance = BFLOAT16 if model.config.dtype == "bfloat16" else FLOAT32
    together = draw(case, method="ddpm")
    np.testing.assert_allclose(np.asarray(alone)[0], together[1], atol=tolerance)


def test_raw_and_typed_keys_agree(case):
    model, params, labels = case
    options = {"steps": STEPS, "num_samples": 2, "clip": True, "method": "ddim"}
    raw = sd.sample(model, params, jax.random.PRNGKey(2), labels, **options)
    assert np.array_equal(np.asarray(raw), draw(case))


def test_gradients_reach_every_skip(case):
    model, params, labels = case
    x = jax.random.normal(jax.random.key(3), (2, *model.config.sample_shape))
    t = jnp.array([10.0, 500.0])
    y = model.conditioning.prepare(labels, 2)

    fusions = {name: leaf for name, leaf in params.items() if name.startswith("skip_fusions_")}

    def loss(fusions):
        return jnp.mean(jnp.square(model.apply({"params": {**params, **fusions}}, x, t, y)))

    gradients = jax.jit(jax.grad(loss))(fusions)
    for j in range(model.num_skips):
        kernel = gradients[f"skip_fusions_{j}"]["linear"]["kernel"]
        own, skipped = jnp.split(kernel, 2)
        assert jnp.any(own != 0)
        assert jnp.any(skipped != 0), f"fusion {j} does not see its skip"


def check_cached_step(case):
    """A plan that repeats a timestep: the cached call then equals the full one, up to fusion."""
    from skipdit_jax.caching.engine import State, empty_state, evaluate
    from skipdit_jax.caching.plan import Kinds, Rows, Sockets, Span, Trunk
    from skipdit_jax.models.stack import bind

    model, params, labels = case
    staged = bind(model, params)
    sockets = Sockets(trunk=Trunk((Span(1, model.num_stages - 1),)))
    x = jax.random.normal(jax.random.key(3), (2, *model.config.sample_shape))
    t = jnp.array([500.0, 500.0])
    y = model.conditioning.prepare(labels, 2)
    empty = empty_state(staged, sockets, x, t, y)
    full, cache = evaluate(staged, sockets, x, t, y, empty, Kinds(trunk=1), Rows())
    cached, same = evaluate(staged, sockets, x, t, y, cache, Kinds(trunk=0), Rows())
    assert isinstance(cache, State)
    jax.tree.map(np.testing.assert_array_equal, same, cache)
    assert np.array_equal(np.asarray(cached), np.asarray(full))
    assert np.array_equal(np.asarray(full), np.asarray(model.apply({"params": params}, x, t, y)))


def test_cached_step_on_its_own_cache_is_the_full_step(case):
    check_cached_step(case)
    assert case[0].num_skips


def test_cached_step_of_a_model_of_text():
    check_cached_step(make_case(SLOW[-1]))
    assert SLOW[-1] in FAMILIES
