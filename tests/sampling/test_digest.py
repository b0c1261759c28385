"""What depends on the condition alone may be made once, before the first step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.models.stack import bind
from skipdit_jax.models.text_conditions import TextCondition
from skipdit_jax.pipeline import Sampler, program, sample_keys
from skipdit_jax.registry import abstract_params
from tests.caching import hlo
from tests.networks import condition_for, random_params

STEPS, BATCH = 4, 2
SMALL = {"hidden_size": 24, "num_heads": 2, "input_size": 4, "depth": 4, "text_width": 8}
TEXTS = {**SMALL, "text_tokens": 5}
TWO_TEXTS = {**SMALL, "hidden_size": 16, "depth": 6, "text_tokens": 3, "t5_width": 8}
FAMILIES = {
    "PixArt": ("PixArt-S/2-skip", {**TEXTS, "size_condition": True}),
    "LatteT2V": ("LatteT2V-S/2-skip", {**TEXTS, "num_frames": 3}),
    "HunYuan-DiT": ("HunYuan-DiT-g/2-v1.1", {**TWO_TEXTS, "t5_tokens": 4, "pooled_width": 8}),
}
FLOAT32 = 1e-4  # of samples clipped to about 1; other fusions round differently
QUICKLY = {"xla_backend_optimization_level": 0}


def masked(model):
    """Texts of which some tokens are padding, with negative texts of others."""
    given = condition_for(model, BATCH)
    if not isinstance(given, np.ndarray):
        return given
    mask = np.ones(given.shape[:2], np.float32)
    mask[:, 3:] = 0
    return TextCondition(given, mask, null_text=-given, null_mask=np.ones_like(mask))


SLOW = ("LatteT2V", "HunYuan-DiT")  # to compile
EACH = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in FAMILIES]


@pytest.fixture(scope="module", params=EACH)
def sampled(request):
    """See `case`."""
    return make_case(request.param)


@pytest.fixture(scope="module", params=FAMILIES)
def case(request):
    """See `make_case`."""
    return make_case(request.param)


def make_case(family):
    """(model, parameters without zeros, texts)."""
    name, fields = FAMILIES[family]
    model = sd.create_model(name, **fields)
    return model, random_params(model), masked(model)


def sampler_of(model, cache=None, **options):
    return Sampler(
        model,
        **{"steps": STEPS, "method": "ddim", "clip": True, "guidance": 3.0, "cache": cache},
        **options,
    )


CACHES = {
    "none": None,
    "skip": sd.SkipCache(every=2, branch=1),
    "one half alone": sd.FasterCache(attention=False, guidance=True),
}


@pytest.mark.parametrize("cache", CACHES)
def test_samples_are_those_of_texts_read_at_each_step(sampled, cache):
    model, params, text = sampled
    keys = sample_keys(jax.random.key(3), 0, BATCH)
    once, always = (
        np.asarray(sampler_of(model, CACHES[cache], hoist=hoist)(params, keys, text))
        for hoist in (True, False)
    )
    np.testing.assert_allclose(once, always, atol=FLOAT32)
    swapped = jax.tree.map(lambda a: a[::-1], model.conditioning.prepare(text, BATCH))
    other = sampler_of(model, CACHES[cache])(params, keys, swapped)
    assert np.abs(np.asarray(other) - once).max() > 10 * FLOAT32, "texts change nothing"


def test_a_digest_of_some_rows_is_those_rows_of_it(case):
    model, params, text = case
    condition = model.conditioning.prepare(text, BATCH)

    @jax.jit
    def digests(condition):
        digest = bind(model, params).digest
        return digest(condition), digest(jax.tree.map(lambda a: a[1:], condition))

    whole, last = digests(condition)
    assert jax.tree.structure(whole) == jax.tree.structure(last)
    for every, own in zip(jax.tree.leaves(whole), jax.tree.leaves(last), strict=True):
        assert len(every) == BATCH
        np.testing.assert_allclose(every[1:], own, rtol=1e-5, atol=1e-5)


def test_embedding_a_digest_is_embedding_its_condition(case):
    model, params, text = case
    condition = model.conditioning.prepare(text, BATCH)
    x = jax.random.normal(jax.random.key(0), (BATCH, *model.sample_shape))
    t = jnp.array([900.0, 20.0])

    @jax.jit
    def outputs(condition):
        bound = bind(model, params)
        found = []
        for given in (condition, bound.digest(condition)):
            h, c = bound.embed(x, t, given)
            h, _ = bound.run(h, c, {}, 0, model.num_stages)
            found.append(bound.head(h, c))
        return found

    plain, digested = outputs(condition)
    np.testing.assert_allclose(digested, plain, atol=1e-5 * np.abs(plain).max())


def products_of_sides(model, hoist):
    """Matrix products of a step that reuses and of one that computes."""
    sampler = sampler_of(model, sd.SkipCache(every=2, branch=1), hoist=hoist)
    keys = sample_keys(jax.random.key(0), 0, BATCH)
    lowered = sampler.lower(abstract_params(model), keys, masked(model))
    compiled = hlo.parse(lowered.compile(compiler_options=QUICKLY).as_text())
    return [hlo.products(side) for side in compiled.branches()]


def test_a_computed_step_multiplies_no_text(case):
    """XLA takes what it can out of a loop, but nothing out of a conditional."""
    model, *_ = case
    (reuse, fresh), (same, whole) = (products_of_sides(model, hoist) for hoist in (True, False))
    assert reuse == same == 0
    inside = model.num_stages - 2  # blocks that read the text
    assert whole - fresh == 2 * inside


def test_what_is_kept_is_counted_and_told(case):
    model, *_ = case
    once, always = (sampler_of(model, hoist=hoist).summary(BATCH) for hoist in (True, False))
    config, rows = model.config, 2 * BATCH
    tokens = config.text_tokens + getattr(config, "t5_tokens", 0)
    keys = 2 * config.depth * rows * tokens * config.hidden_size * 4
    vector = rows * config.hidden_size * 4 if config.size_condition else 0  # what joins time's
    assert (once.digest_bytes, always.digest_bytes) == (keys + vector, 0)
    assert f"; text {once.digest_bytes / 2**20:.3g} MiB" in str(once)
    assert "text" not in str(always)


def test_texts_are_kept_up_to_as_much_as_the_weights(case, monkeypatch):
    """Where nobody says; texts that are read at each step are told, with what they would take."""
    model, *_ = case
    weights = sum(
        leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(abstract_params(model))
    )
    forced = sampler_of(model, hoist=True).summary(1).digest_bytes
    most = weights // forced
    for samples, kept in ((most, most), (most + 1, most + 1)):
        assert sampler_of(model).summary(samples).digest_bytes == kept * forced
    monkeypatch.setattr(program, "HOISTED_ANYHOW", 0)
    assert sampler_of(model).summary(most).digest_bytes == most * forced
    left = sampler_of(model).summary(most + 1)
    assert (left.digest_bytes, left.left_out_bytes) == (0, (most + 1) * forced)
    told = f"texts read at each step, as kept they would take {left.left_out_bytes / 2**20:.4g} MiB"
    assert str(left).endswith(told)
    assert sampler_of(model, hoist=True).summary(most + 1).digest_bytes == (most + 1) * forced


def test_what_is_kept_and_what_is_left_out_are_two_programs(monkeypatch):
    """The rule decides what a run really compiles, not only what is told of it."""
    model = make_case("PixArt")[0]
    own, once, always = (products_of_sides(model, hoist)[1] for hoist in (None, True, False))
    assert own == once < always
    monkeypatch.setattr(program, "HOISTED_ANYHOW", 0)
    monkeypatch.setattr(program, "bytes_of", lambda tree: 1 if isinstance(tree, list) else 0)
    jax.clear_caches()
    assert products_of_sides(model, None)[1] == always


def test_models_of_classes_have_nothing_to_hoist():
    model = sd.create_model("DiT-S/2-skip", hidden_size=16, num_heads=2, input_size=4, depth=4)
    assert bind(model, {}).digest is None
    once, always = (sampler_of(model, hoist=hoist) for hoist in (True, False))
    keys = sample_keys(jax.random.key(0), 0, BATCH)
    labels = condition_for(model, BATCH)
    texts = [one.lower(abstract_params(model), keys, labels).as_text() for one in (once, always)]
    assert texts[0] == texts[1]
    assert once.summary(BATCH).digest_bytes == 0
