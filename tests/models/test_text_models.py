"""PixArt and LatteT2V: published sizes, configs, what sees what, caches of their sub-layers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.caching.plan import Run
from skipdit_jax.caching.summary import flops_of_steps
from skipdit_jax.models.hunyuan_dit import HunYuanDiTConfig
from skipdit_jax.models.stack import bind
from skipdit_jax.models.text import CROSS, TextBlock, TextVectors
from skipdit_jax.models.text_conditions import TextCondition
from skipdit_jax.pipeline import sample_keys
from skipdit_jax.registry import (
    abstract_params,
    find_model,
    published_diffusion,
    published_sampling,
)
from tests.networks import apply, condition_for, random_params

# docs/notes.md, Sizes and FLOPs.
PUBLISHED_FLOPS = {
    "LatteT2V-XL/2-skip": 71.2333e12 / 2,
    "LatteT2V-XL/2": 68.7980e12 / 2,
    "HunYuan-DiT-g/2": 28.7316e12 / 2,
}
CACHED_RATIO = 13.98
CEILINGS = {2: 1.461, 3: 1.691, 4: 1.867, 5: 1.934, 6: 2.083}
TINY = {
    "depth": 2,
    "hidden_size": 24,
    "num_heads": 2,
    "input_size": 4,
    "text_width": 8,
    "text_tokens": 5,
}
CLIPS = {**TINY, "num_frames": 3}
TIMES = jnp.array([10.0, 700.0])


def make(name, **fields):
    """(model, parameters without zeros)."""
    model = sd.create_model(name, **fields)
    return model, random_params(model)


def noise(*shape):
    return jax.random.normal(jax.random.key(2), shape)


def texts(model, *shape):
    return noise(2, *shape, model.config.text_tokens, model.config.text_width)


def counted_besides(config):
    """FLOPs that the published counts have and ours leave out, of one row."""
    if isinstance(config, HunYuanDiTConfig):  # the two linears on the text of mT5
        return 2 * config.t5_tokens * 4 * config.t5_width * (config.t5_width + config.text_width)
    # The original projects keys and values of the text for every frame.
    repeats = config.num_frames - 1
    return 4 * config.depth * repeats * config.text_tokens * config.hidden_size**2


@pytest.mark.parametrize("name", PUBLISHED_FLOPS)
def test_published_flops(name):
    model = sd.create_model(name)
    ours = model.costs.total() + counted_besides(model.config)
    assert ours == pytest.approx(PUBLISHED_FLOPS[name], rel=1e-3)


def test_published_ceilings_of_skip_cache():
    model = sd.create_model("LatteT2V-skip")
    plan = sd.SkipCache(every=2, branch=1).plan(Run(np.array([600, 500]), 28, 14))
    ratio = np.divide(*flops_of_steps(plan, model.costs))
    assert ratio == pytest.approx(CACHED_RATIO, rel=3e-3)
    run = Run(np.arange(980, -1, -20), 28, 14)
    published = sd.SkipCache(every=2).resolved(published_sampling(model).cache)
    for every, ceiling in CEILINGS.items():
        steps = flops_of_steps(dataclasses.replace(published, every=every).plan(run), model.costs)
        found = len(steps) * model.costs.total() / np.sum(steps)
        assert found == pytest.approx(ceiling, rel=2e-3)


def test_published_settings_of_hunyuan():
    newer, older = (sd.create_model(f"HunYuan-DiT-g/2{ending}") for ending in ("", "-v1.1"))
    assert (newer.num_stages, newer.num_skips) == (40, 19)
    assert (newer.conditioning.pixels, older.conditioning.pixels) == (None, (1024, 1024))
    betas = [published_diffusion(model).beta_range for model in (newer, older)]
    assert betas == [(0.00085, 0.02), (0.00085, 0.03)]
    assert published_diffusion(newer).prediction == "v"


def test_published_names():
    cache = find_model("LatteT2V-skip-cache-4").cache
    assert (cache.every, cache.branch, cache.start, cache.stop) == (4, 1, 700, 50)
    same = sd.create_model("LatteT2V-XL/2-skip")
    assert sd.create_model("LatteT2V-skip") == same
    assert (same.num_stages, same.num_skips, same.sample_shape) == (28, 14, (16, 64, 64, 4))
    large = sd.create_model("PixArt-XL/2-1024-MS")
    assert large.conditioning.pixels == (1024, 1024)
    assert large.config.extent == sd.create_model("PixArt-XL/2").config.extent == 32


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        ("PixArt-S/2", {"depth": 3, "skip": True}, "depth 3 is no multiple of 2, as skips need"),
        ("PixArt-S/2", {"hidden_size": 16, "size_condition": True}, "no multiple of 3, as sizes"),
        ("PixArt-S/2", {"input_size": (4, 8)}, r"sample_size is None, wanted the side .* no squa"),
        ("PixArt-S/2", {"interpolation_scale": 0.0}, "interpolation_scale is 0.0, wanted more"),
        ("PixArt-S/2", {"text_dropout_prob": 1.0}, "text_dropout_prob is 1.0, wanted 0 <= p < 1"),
        ("LatteT2V-S/2", {"num_frames": 0}, "LatteT2V: num_frames is 0, wanted 1 or more"),
        ("LatteT2V-S/2", {"text_width": 0}, "LatteT2V: text_width is 0, wanted 1 or more"),
        ("LatteT2V-S/2", {"num_classes": 3}, "unknown option num_classes"),
    ],
)
def test_bad_configs_name_the_field(name, changes, told):
    with pytest.raises(ValueError, match=told) as caught:
        sd.create_model(name, **{**TINY, **changes})
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_new_block_starts_without_its_text():
    """The output of cross-attention starts at zero (arXiv 2310.00426, section 2.3)."""
    config = sd.create_model("PixArt-S/2", **TINY).config
    shapes = (2, 4, 24), (2, 6, 24), (2, 1, 24), (2, 5, 24)
    h, *vectors = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    params = TextBlock(config).lazy_init(jax.random.key(0), h, TextVectors(*vectors, None))
    cross = params["params"]["cross_attn"]
    assert not np.any(cross["proj"]["kernel"])
    assert np.all(np.std(cross["v"]["kernel"], axis=0) > 0)


def test_a_masked_token_is_not_seen():
    model, params = make("PixArt-S/2", **TINY)
    x, text = noise(2, 4, 4, 4), texts(model)
    mask = jnp.ones(text.shape[:2]).at[:, 3:].set(0)
    seen = apply(model, params, x, TIMES, TextCondition(text, mask))
    other = apply(model, params, x, TIMES, TextCondition(text.at[:, 3:].add(5.0), mask))
    np.testing.assert_allclose(seen, other, atol=1e-5)
    without = apply(model, params, x, TIMES, TextCondition(text, jnp.ones_like(mask)))
    assert np.abs(np.asarray(seen - without)).max() > 1e-3


def test_implementations_of_masked_attention_agree():
    """JAX's own attention is the other writing of the same formula."""
    model, params = make("PixArt-S/2", **TINY, attention="fold")
    text = texts(model)
    condition = TextCondition(text, jnp.ones(text.shape[:2]).at[:, 3:].set(0))
    chosen = sd.create_model("PixArt-S/2", **TINY, attention="xla")
    inputs = noise(2, 4, 4, 4), TIMES, condition
    got, want = (apply(m, params, *inputs) for m in (chosen, model))
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_images_neither_see_nor_change_the_clip_and_have_texts_of_their_own():
    model, params = make("LatteT2V-S/2", **CLIPS)
    x, text = noise(2, 5, 4, 4, 4), texts(model, 3)
    joint = np.asarray(apply(model, params, x, TIMES, TextCondition(text)))
    clip = apply(model, params, x[:, :3], TIMES, TextCondition(text[:, 0]))
    np.testing.assert_allclose(joint[:, :3], clip, atol=1e-5)
    told = TextCondition(text.at[:, 1].add(1.0))
    moved = np.asarray(apply(model, params, x, TIMES, told))
    changed = np.abs(moved - joint).max(axis=(0, 2, 3, 4)) > 1e-4
    assert changed.tolist() == [False, False, False, True, False]


def test_without_temporal_blocks_frames_are_pictures():
    model, params = make("LatteT2V-S/2", **CLIPS, temporal=False)
    assert jax.tree.structure(params) == jax.tree.structure(
        random_params(sd.create_model("LatteT2V-S/2", **CLIPS))
    )
    x, text = noise(2, 3, 4, 4, 4), TextCondition(texts(model))
    out = np.asarray(apply(model, params, x, TIMES, text))
    moved = np.asarray(apply(model, params, x.at[:, 2].add(1.0), TIMES, text))
    assert (np.abs(moved - out).max(axis=(0, 2, 3, 4)) > 1e-4).tolist() == [False, False, True]


def test_too_many_frames_are_refused():
    model = sd.create_model("LatteT2V-S/2", **CLIPS)
    inputs = noise(2, 4, 4, 4, 4), TIMES, TextCondition(texts(model))
    with pytest.raises(ValueError, match=r"LatteT2V: 4 video frames, wanted 1 to 3 \(num_frames"):
        jax.eval_shape(model.apply, {"params": abstract_params(model)}, *inputs)


@pytest.mark.parametrize(
    ("name", "fields", "names"),
    [
        ("PixArt-S/2", TINY, ["attn", "xattn", "mlp"]),
        ("LatteT2V-S/2", CLIPS, ["attn", "xattn", "mlp", "tattn", "tmlp"]),
    ],
)
def test_sublayers_pass_the_seam_in_their_order(name, fields, names):
    """Their own updates through a hook are the stage without one."""
    model = sd.create_model(name, **fields)
    seen = []

    def hook(sublayer):
        seen.append((sublayer.stage, sublayer.name, sublayer.gate is None))
        return sublayer.plain()

    def staged(params, *inputs):
        bound = bind(model, params)
        h, c = bound.embed(*inputs)
        return bound.head(bound.run(h, c, {}, 0, 2, hook=hook)[0], c)

    jax.eval_shape(staged, abstract_params(model), *model.example_inputs(2))
    assert seen == [(stage, one, one == "xattn") for stage in (0, 1) for one in names]
    assert [one for one, _ in model.costs.sublayers] == names


def test_updates_without_a_gate_can_be_reused():
    """PAB keeps gate times update: cross-attention has an update alone."""
    model = sd.create_model("PixArt-S/2", **TINY)
    cache = sd.Pab(spatial=1, cross=2, low=-1, high=1000)
    sampler = sd.Sampler(model, steps=4, method="ddim", cache=cache)
    computed = dict(zip(sampler.plan.sockets.sub.sites, sampler.plan.computed().T, strict=True))
    assert computed[1, CROSS].tolist() == [True, False, True, False]
    keys, text = sample_keys(jax.random.key(0), 0, 2), condition_for(model)
    samples = jax.eval_shape(lambda p: sampler(p, keys, text), abstract_params(model))
    assert samples.shape == (2, *model.sample_shape)


@pytest.mark.slow
def test_bfloat16_stays_near_float32():
    model, params = make("LatteT2V-S/2-skip", **CLIPS)
    text = texts(model)
    mask = jnp.ones(text.shape[:2]).at[:, 3:].set(0)
    inputs = noise(2, 3, 4, 4, 4), TIMES, TextCondition(text, mask)
    want = np.asarray(apply(model, params, *inputs))
    types = {"dtype": "bfloat16", "param_dtype": "bfloat16"}
    half = sd.create_model("LatteT2V-S/2-skip", **CLIPS, **types)
    got = apply(half, jax.tree.map(lambda a: a.astype(jnp.bfloat16), params), *inputs)
    assert got.dtype == jnp.float32
    error = np.sqrt(np.mean(np.square(np.asarray(got) - want))) / np.sqrt(np.mean(np.square(want)))
    assert 0 < error < 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("PixArt-S/2-skip", {**TINY, "size_condition": True}),
        ("LatteT2V-S/2-skip", CLIPS),
        ("HunYuan-DiT-g/2", {**TINY, "depth": 4, "t5_width": 8, "hidden_size": 16}),
    ],
)
def test_blocks_can_be_computed_again_for_their_gradients(name, fields):
    model = sd.create_model(name, **fields, remat="blocks")
    params, inputs = abstract_params(model), model.example_inputs(2)

    def loss(params, *inputs):
        return jnp.mean(model.apply({"params": params}, *inputs))

    gradients = jax.eval_shape(jax.grad(loss), params, *inputs)
    assert jax.tree.map(jnp.shape, gradients) == jax.tree.map(jnp.shape, params)
