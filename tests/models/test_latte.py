"""Latte and Latte-skip: published sizes, initialisation, configs, frames and images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.caching.plan import Run
from skipdit_jax.caching.summary import flops_of_steps
from skipdit_jax.layers.attention import attend
from skipdit_jax.models.conditions import JointLabels
from skipdit_jax.registry import abstract_params
from tests.networks import apply, random_params

# With the fixed tables of 256 positions and 16 frames (docs/notes.md, Sizes and FLOPs).
PUBLISHED_COUNTS = {
    ("Latte-XL/2-skip", 101): 692_732_192,
    ("Latte-XL/2-skip", 0): 692_614_688,
    ("Latte-XL/2", 101): 674_112_416,
}
PUBLISHED_FLOPS = 3725e9  # Latte-XL/2, 16 frames of 256x256, from the same notes
CACHED_RATIO = 7.0  # full step over cached step of XL/2-skip (6.99 there)
TINY = {
    "depth": 8,
    "hidden_size": 32,
    "num_heads": 4,
    "input_size": 4,
    "num_classes": 5,
    "num_frames": 4,
}


def make(name="Latte-S/2-skip", **changes):
    """(model, parameters without zeros)."""
    model = sd.create_model(name, **{**TINY, **changes})
    return model, random_params(model)


def clips(frames, batch=2):
    return jax.random.normal(jax.random.key(2), (batch, frames, 4, 4, 4))


TIMES = jnp.array([10.0, 700.0])


@pytest.mark.parametrize(("name", "classes"), PUBLISHED_COUNTS)
def test_published_parameter_counts(name, classes):
    model = sd.create_model(name, num_classes=classes)
    trained = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(abstract_params(model)))
    tables = (model.config.tokens + model.config.num_frames) * model.config.hidden_size
    assert trained + tables == PUBLISHED_COUNTS[name, classes]


def test_published_flops_and_ceilings():
    assert sd.create_model("Latte-XL/2").costs.total() == pytest.approx(PUBLISHED_FLOPS, rel=1e-3)
    model = sd.create_model("Latte-XL/2-skip")
    plan = sd.SkipCache(every=2, branch=1).plan(Run(np.array([900, 500]), 14, 7))
    ratio = np.divide(*flops_of_steps(plan, model.costs))
    assert ratio == pytest.approx(CACHED_RATIO, rel=1e-3)
    samplers = [sd.Sampler(model, steps=250, cache=sd.SkipCache(every=n)) for n in range(2, 7)]
    ceilings = [round(sampler.summary(1).ceiling, 3) for sampler in samplers]
    assert ceilings == [1.579, 1.949, 2.215, 2.397, 2.566]
    full = [int(np.sum(~sampler.plan.reuse)) for sampler in samplers]
    assert full == [143, 108, 90, 80, 72]


def test_an_image_costs_a_spatial_half_stage():
    model = sd.create_model("Latte-XL/2")
    one, two = (model.joint_costs(n).total() for n in (1, 2))
    dit = sd.create_model("DiT-XL/2").costs.total()
    # Half of the blocks of a DiT, but for one modulation of each block that clip and images share.
    assert two - one == pytest.approx(dit / 2, rel=3e-3)


def test_published_names_carry_their_cache():
    from skipdit_jax.registry import find_model

    cache = find_model("Latte-skip-cache-4").cache
    assert (cache.every, cache.branch, cache.start, cache.stop) == (4, 1, 900, 49)
    same = sd.create_model("Latte-XL/2-skip").config
    assert sd.create_model("Latte-skip").config == sd.create_model("Latte-skip-cache-2").config
    assert sd.create_model("Latte-skip").config == same


def test_published_initialisation():
    """Skip linears start as others do, unlike DiT's: docs/notes.md, Parts of DiT and Latte."""
    params = sd.init_params(sd.create_model("Latte-S/2-skip", **TINY), jax.random.key(0))
    for block in ("blocks_0", "blocks_1"):
        assert not any(jnp.any(leaf) for leaf in params[block]["modulation"].values())
    assert not any(jnp.any(leaf) for leaf in params["final_layer"]["linear"].values())
    fusion = params["skip_fusions_0"]["linear"]
    bound = np.sqrt(6 / (3 * TINY["hidden_size"]))  # 2D inputs, D outputs
    assert 0.95 * bound < np.abs(fusion["kernel"]).max() <= bound
    assert not np.any(fusion["bias"])


def test_videos_of_a_batch_do_not_mix():
    model, params = make()
    x, y = clips(4), jnp.array([3, 1])
    both = apply(model, params, x, TIMES, y)
    alone = apply(model, params, x[1:], TIMES[1:], y[1:])
    np.testing.assert_allclose(both[1:], alone, atol=1e-5)


def test_frames_see_each_other_and_know_their_order():
    model, params = make()
    x, y = clips(4), jnp.array([3, 1])
    out = np.asarray(apply(model, params, x, TIMES, y))
    changed = np.asarray(apply(model, params, x.at[:, 3].add(1.0), TIMES, y))
    assert np.abs(changed - out)[:, 0].max() > 1e-3
    reversed_ = np.asarray(apply(model, params, x[:, ::-1], TIMES, y))
    assert np.abs(reversed_[:, ::-1] - out).max() > 1e-3


def test_images_neither_see_nor_change_the_video():
    model, params = make()
    x, y = clips(6), jnp.array([3, 1])
    labels = JointLabels(y, jnp.array([[0, 4], [2, 5]]))
    joint = np.asarray(apply(model, params, x, TIMES, labels))
    video = np.asarray(apply(model, params, x[:, :4], TIMES, y))
    np.testing.assert_allclose(joint[:, :4], video, atol=1e-5)
    other = np.asarray(apply(model, params, x.at[:, 4].add(1.0), TIMES, labels))
    np.testing.assert_allclose(other[:, 5], joint[:, 5], atol=1e-5)
    relabelled = labels._replace(images=labels.images.at[:, 0].set(1))
    moved = np.asarray(apply(model, params, x, TIMES, relabelled))
    changed = np.abs(moved - joint).max(axis=(0, 2, 3, 4)) > 1e-4
    assert changed.tolist() == [False, False, False, False, True, False]


@pytest.mark.parametrize("axis", [-3, -4])
def test_attention_runs_along_the_axis_it_is_told(axis):
    """Folding and JAX's own attention agree with softmax(q k^T / sqrt(d)) v, written out."""
    shape = (2, 3, 5, 4, 8)  # [B,F,N,h,d]
    q, k, v = (jax.random.normal(jax.random.key(i), shape) for i in range(3))
    letters = {-3: "bfnhd,bfmhd->bfhnm", -4: "bfnhd,bgnhd->bnhfg"}[axis]
    back = {-3: "bfhnm,bfmhd->bfnhd", -4: "bnhfg,bgnhd->bfnhd"}[axis]
    weights = jax.nn.softmax(jnp.einsum(letters, q, k) / np.float32(np.sqrt(8)), axis=-1)
    want = np.asarray(jnp.einsum(back, weights, v))
    for implementation in ("fold", "xla"):
        got = attend(q, k, v, implementation, axis)
        np.testing.assert_allclose(np.asarray(got), want, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"depth": 6}, "depth 6 is no multiple of 4, as skips need"),
        ({"depth": 3, "skip": False}, "depth 3 is no multiple of 2"),
        ({"num_frames": 0}, "num_frames is 0"),
        ({"num_heads": 5}, "num_heads"),
        ({"frames": 4}, "unknown option frames"),
    ],
)
def test_bad_configs_name_the_field(changes, word):
    with pytest.raises(ValueError, match=word) as error:
        sd.create_model("Latte-S/2-skip", **{**TINY, **changes})
    assert "\n" not in str(error.value)


def test_too_many_frames_are_refused():
    model, params = make()
    with pytest.raises(ValueError, match=r"Latte: 5 video frames, wanted 1 to 4 \(num_frames\)"):
        apply(model, params, clips(5), TIMES, jnp.array([0, 1]))


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({"input_size": (4, 8)}, (2, 4, 4, 8, 8)),
        ({"num_classes": 0, "learn_sigma": False}, (2, 4, 4, 4, 4)),
        ({"patch_size": 4, "in_channels": 1}, (2, 4, 4, 4, 2)),
    ],
)
def test_variants(changes, shape):
    model, params = make(**changes)
    x = jnp.zeros((2, *model.config.sample_shape))
    y = jnp.array([0, 1]) if model.config.num_classes else None
    assert apply(model, params, x, TIMES, y).shape == shape


def test_bfloat16_stays_near_float32():
    model, params = make()
    inputs = clips(4), TIMES, jnp.array([1, 5])
    want = np.asarray(apply(model, params, *inputs))
    types = {"dtype": "bfloat16", "param_dtype": "bfloat16"}
    half = sd.create_model("Latte-S/2-skip", **TINY, **types)
    stored = jax.tree.map(lambda a: a.astype(jnp.bfloat16), params)
    got = apply(half, stored, *inputs)
    assert got.dtype == jnp.float32
    error = np.sqrt(np.mean(np.square(np.asarray(got) - want))) / np.sqrt(np.mean(np.square(want)))
    assert 0 < error < 0.1


def test_only_the_operands_of_attention_are_transposed():
    """q, k, v and the result of each block; the hidden state [B,F,N,D] is never rearranged.

    Inside the products XLA sees arrays [rows, N, d] of three axes, whose order is theirs.
    """
    model = sd.create_model("Latte-S/2-skip", **TINY, attention="fold")
    shapes = abstract_params(model)
    inputs = (clips(4), TIMES, jnp.array([0, 1]))
    program = jax.make_jaxpr(lambda params: model.apply({"params": params}, *inputs))(shapes)
    size = 2 * model.config.num_frames * model.config.tokens * model.config.hidden_size
    outputs = [e.outvars[0].aval for e in equations(program.jaxpr) if e.primitive.name == MOVES]
    heads = [a for a in outputs if a.ndim == 5 and a.size == size]
    assert len(heads) == 4 * model.config.depth
    assert not [a for a in outputs if a.ndim == 4 and a.size == size]


MOVES = "transpose"


def equations(jaxpr):
    """All equations, those of inner programs too."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            if hasattr(value, "jaxpr"):
                yield from equations(value.jaxpr)
