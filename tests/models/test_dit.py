"""DiT and Skip-DiT: published sizes, initialisation, configs, types."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.caching.plan import Run
from skipdit_jax.caching.summary import flops_of_steps
from skipdit_jax.registry import abstract_params, model_names
from tests.networks import apply

# With the fixed table of 256 positions (docs/notes.md, Sizes and FLOPs; arXiv 2212.09748, table 1
# rounds the first).
PUBLISHED_COUNTS = {"DiT-XL/2": 675_129_632, "DiT-XL/2-skip": 712_369_184}
# FLOPs of one call at 256x256, from the same notes.
PUBLISHED_FLOPS = {"DiT-XL/2": 237e9, "DiT-XL/2-skip": 256e9}
CACHED_FLOPS = 73e9  # XL/2-skip, k = 4
TINY = {"depth": 4, "hidden_size": 32, "num_heads": 4, "input_size": 8, "num_classes": 5}


def count(model):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(abstract_params(model)))


@pytest.mark.parametrize("name", PUBLISHED_COUNTS)
def test_published_parameter_counts(name):
    model = sd.create_model(name)
    height, width = (side // model.config.patch_size for side in model.config.grid)
    table = height * width * model.config.hidden_size
    assert count(model) + table == PUBLISHED_COUNTS[name]


@pytest.mark.parametrize("name", PUBLISHED_FLOPS)
def test_published_flops(name):
    costs = sd.create_model(name).costs
    assert costs.total() == pytest.approx(PUBLISHED_FLOPS[name], rel=0.002)


def test_published_ceilings():
    """DiT-XL/2-skip, 250 steps, N = 2..6: docs/notes.md, Skip-Cache as published."""
    model = sd.create_model("DiT-XL/2-skip")
    cached = sd.SkipCache(every=2, branch=4).plan(Run(np.array([900, 500]), 28, 14))
    assert flops_of_steps(cached, model.costs)[1] == pytest.approx(CACHED_FLOPS, rel=0.005)
    samplers = (sd.Sampler(model, steps=250, cache=sd.SkipCache(every=n)) for n in range(2, 7))
    ceilings = [round(sampler.summary(1).ceiling, 3) for sampler in samplers]
    assert ceilings == [1.535, 1.872, 2.096, 2.273, 2.397]


@pytest.mark.parametrize("alias", ["DiT-XL-2-skip", "DiT-skip", "DiT-cache-3"])
def test_aliases(alias):
    assert sd.create_model(alias).config == sd.create_model("DiT-XL/2-skip").config


@pytest.mark.parametrize("name", [n for n in model_names() if "N" not in n])
def test_every_name_makes_a_model_with_the_published_shape(name):
    model = sd.create_model(name)
    config = model.config
    assert config.hidden_size % config.num_heads == 0
    unpaired = 1 if name.startswith("HunYuan") else 0  # of each half: its middle fuses nothing
    assert model.num_skips == (model.num_stages // 2 - unpaired if config.skip else 0)


@pytest.mark.parametrize("name", ["DiT-XXL/2", "DiT-XL/3", "dit-xl/2", "", "DiT-cache-"])
def test_unknown_names_list_the_choices(name):
    bundled = "dit-digits, latte-digits, pixart-digits, latte-t2v-digits"
    with pytest.raises(ValueError, match=rf"DiT-XL/2-skip[^\n]*{bundled}$"):
        sd.create_model(name)


@pytest.mark.parametrize(
    ("overrides", "word"),
    [
        ({"input_size": 9}, "divisible"),
        ({"input_size": (8, 7)}, "divisible"),
        ({"num_heads": 5}, "num_heads"),
        ({"depth": 5}, "depth 5 is no multiple of 2, as skips need"),
        ({"depth": 0}, "depth"),
        ({"dtype": "float16"}, "dtype"),
        ({"attention": "flash"}, "attention"),
        ({"class_dropout_prob": 1.0}, "class_dropout_prob"),
        ({"num_classes": -1}, "num_classes"),
        ({"heads": 4}, "unknown option heads"),
        ({"image_size": 100}, "image_size"),
        ({"image_size": 64, "input_size": 8}, "not both"),
    ],
)
def test_bad_configs_name_the_field(overrides, word):
    options = {**TINY, **overrides}
    if overrides.get("image_size") == 100:
        del options["input_size"]
    with pytest.raises(ValueError, match=word) as error:
        sd.create_model("DiT-S/2-skip", **options)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def fresh():
    model = sd.create_model("DiT-S/2-skip", **TINY)
    return model, sd.init_params(model, jax.random.key(0))


def test_published_initialisation(fresh):
    _, params = fresh
    width, hidden = TINY["hidden_size"], 4 * TINY["hidden_size"]
    block = params["blocks_1"]
    for zero in (block["modulation"], params["final_layer"]["modulation"]):
        assert not any(jnp.any(leaf) for leaf in zero.values())
    assert not any(jnp.any(leaf) for leaf in params["final_layer"]["linear"].values())
    bound = np.sqrt(6 / (width + hidden))  # xavier-uniform
    kernel = np.abs(block["mlp"]["fc1"]["kernel"])
    assert 0.95 * bound < kernel.max() <= bound
    assert not jnp.any(block["mlp"]["fc1"]["bias"])
    table = np.asarray(params["y_embedder"]["embedding"])
    assert table.shape == (TINY["num_classes"] + 1, width)
    assert np.std(table) == pytest.approx(0.02, rel=0.2)
    fusion = params["skip_fusions_0"]
    bound = 1 / np.sqrt(2 * width)  # PyTorch's default for a linear of 2D inputs
    for leaf in fusion["linear"].values():
        assert 0.85 * bound < np.abs(leaf).max() <= bound
    assert np.all(np.asarray(fusion["norm"]["scale"]) == 1)
    assert not np.any(fusion["norm"]["bias"])


def test_a_fresh_model_predicts_nothing(fresh):
    model, params = fresh
    x = jax.random.normal(jax.random.key(1), (2, 8, 8, 4))
    out = apply(model, params, x, jnp.array([0.0, 999.0]), jnp.array([1, 5]))
    assert out.shape == (2, 8, 8, 8)
    assert not np.any(out)


@pytest.mark.parametrize(
    ("overrides", "shape"),
    [
        ({"input_size": (4, 12)}, (2, 4, 12, 8)),
        ({"learn_sigma": False}, (2, 8, 8, 4)),
        ({"in_channels": 3}, (2, 8, 8, 6)),
        ({"num_classes": 0}, (2, 8, 8, 8)),
        ({"patch_size": 4}, (2, 8, 8, 8)),
        ({"mlp_ratio": 2.5}, (2, 8, 8, 8)),
    ],
)
def test_variants(overrides, shape):
    model = sd.create_model("DiT-S/2-skip", **{**TINY, **overrides})
    params = sd.init_params(model, jax.random.key(0))
    x = jnp.zeros((2, *model.config.sample_shape))
    y = jnp.array([0, 1]) if model.config.num_classes else None
    assert apply(model, params, x, jnp.array([1.0, 2.0]), y).shape == shape


def test_bfloat16_stays_near_float32(fresh):
    model, params = fresh
    params = jax.tree.map(
        lambda a: a + 0.05 * jax.random.normal(jax.random.key(2), a.shape), params
    )
    x = jax.random.normal(jax.random.key(1), (2, 8, 8, 4))
    inputs = x, jnp.array([3.0, 999.0]), jnp.array([1, 5])
    want = np.asarray(apply(model, params, *inputs))
    half = sd.create_model("DiT-S/2-skip", **TINY, dtype="bfloat16", param_dtype="bfloat16")
    stored = jax.tree.map(lambda a: a.astype(jnp.bfloat16), params)
    got = apply(half, stored, *inputs)
    assert got.dtype == jnp.float32
    error = np.sqrt(np.mean(np.square(np.asarray(got) - want))) / np.sqrt(np.mean(np.square(want)))
    assert 0 < error < 0.05


def test_remat_computes_again_what_it_does_not_keep():
    """Products in the gradient: "blocks" repeats all of a block, "dots" only those of attention."""
    products = {}
    for remat in ("none", "dots", "blocks"):
        model = sd.create_model("DiT-S/2-skip", remat=remat, **TINY)
        shapes = abstract_params(model)
        x = jnp.zeros((1, *model.config.sample_shape))
        inputs = (x, jnp.zeros(1), jnp.zeros(1, jnp.int32))

        def loss(params, model=model, inputs=inputs):
            return jnp.sum(model.apply({"params": params}, *inputs) ** 2)

        text = str(jax.make_jaxpr(jax.grad(loss))(shapes))
        products[remat] = text.count("dot_general[")
        assert jax.tree.structure(shapes) == jax.tree.structure(
            abstract_params(sd.create_model("DiT-S/2-skip", **TINY))
        )
    assert products["none"] < products["dots"] < products["blocks"]
