"""A network of one's own in sampler and caches, as docs/own-model.md tells it."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.contracts import Backbone
from skipdit_jax.pipeline import sample_keys
from tests.networks import condition_for, random_params

PAGE = Path(__file__).parents[1] / "docs" / "own-model.md"
TINY = {"depth": 4, "hidden_size": 16, "num_heads": 2, "input_size": 4, "num_classes": 3}


def block(title):
    (code,) = re.findall(
        rf"## {re.escape(title)}\n\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL
    )
    return compile(code, f"{PAGE}: {title}", "exec")


@pytest.fixture(scope="module")
def plain():
    names = {}
    exec(block("Plain functions"), names)
    return names


def draw(model, params, **options):
    labels, key = [2, 1], jax.random.key(1)
    return np.asarray(sd.sample(model, params, key, labels, steps=6, method="ddim", **options))


def test_plain_functions_are_sampled_guided_and_cached(plain):
    model = plain["model"]
    assert isinstance(model, Backbone)
    assert plain["images"].shape == (2, 8, 8, 1)
    assert np.isfinite(plain["images"]).all()


@pytest.mark.parametrize(
    ("title", "needs"), [("flax.linen", "flax"), ("flax.nnx", "flax"), ("equinox", "equinox")]
)
def test_the_page_runs(plain, title, needs):
    """Its reused sub-layers are those of the network: computed at every step, nothing changes."""
    pytest.importorskip(needs, reason=f"{needs} is not installed: the page is tried without")
    names = dict(plain)
    exec(block(title), names)
    model = names["model"]
    assert model != plain["model"]
    params = sd.init_params(model, jax.random.key(0))
    cached = draw(model, params, guidance=2.0, cache="fora:2")
    assert np.isfinite(cached).all()
    computed = draw(model, params, guidance=2.0, cache="fora:1")
    np.testing.assert_allclose(computed, draw(model, params, guidance=2.0), atol=1e-5)
    assert not np.array_equal(cached, computed)


def own_of(dit, *methods):
    """The same network as plain functions, with these methods that not every network has."""

    def part(method):
        return lambda params, *given, **hook: dit.apply(
            {"params": params}, *given, method=method, **hook
        )

    def stage(params, u, h, c, seam):
        return part("run")(params, h, c, {}, u, u + 1, hook=seam.hook)[0]

    return sd.own_model(
        init=lambda key: sd.init_params(dit, key),
        embed=part("embed"),
        stage=stage,
        head=part("head"),
        **{method: part(method) for method in methods},
        costs=dit.costs,
        sample_shape=dit.sample_shape,
        conditioning=dit.conditioning,
        learns_variance=True,
    )


@pytest.mark.parametrize("cache", ["fora:2", "block-cache(every=2)"])
def test_functions_of_a_dit_give_what_the_dit_gives(cache):
    dit = sd.create_model("DiT-S/2", **TINY)
    own, params = own_of(dit, "prepare"), random_params(dit)
    np.testing.assert_array_equal(draw(own, params, cache=cache), draw(dit, params, cache=cache))
    ours, theirs = (sd.Sampler(m, steps=6, cache=cache).summary(2) for m in (own, dit))
    assert ours == theirs


def test_what_functions_make_of_a_text_is_made_once():
    sizes = {"hidden_size": 24, "num_heads": 2, "input_size": 4, "depth": 4}
    pixart = sd.create_model("PixArt-S/2", **sizes, text_width=8, text_tokens=5)
    own, text = own_of(pixart, "digest"), condition_for(pixart)
    inputs = random_params(pixart), sample_keys(jax.random.key(0), 0, 2), text
    ours, theirs = (sd.Sampler(model, steps=2, method="ddim") for model in (own, pixart))
    np.testing.assert_array_equal(ours(*inputs), theirs(*inputs))
    assert ours.summary(2).digest_bytes == theirs.summary(2).digest_bytes > 0


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"num_skips": 3}, "found 4 stages and 3 skips, wanted"),
        ({"num_skips": 0}, "found 0 skips and a fuse, wanted both or neither"),
    ],
)
def test_numbers_that_describe_no_model(plain, changes, told):
    numbers = {"stage": 1, "fuse": 1, "num_stages": 4, "num_skips": 2, **changes}
    parts = {name: plain[name] for name in ("init", "embed", "stage", "fuse", "head")}
    with pytest.raises(ValueError, match=told):
        sd.own_model(**parts, **{**plain["SAME"], "costs": sd.Costs(**numbers)})


def test_caches_that_do_not_apply_say_why(plain):
    for cache in ("pab:2", "faster-cache"):
        with pytest.raises(ValueError, match=r"found (no attention|sub-layers mlp) in the model"):
            sd.Sampler(plain["model"], steps=8, cache=cache)
    for cache in ("N2", "deepcache", "faster-diffusion", "smooth(masks=(('mlp', (1, 0)),))"):
        assert sd.Sampler(plain["model"], steps=8, cache=cache).summary(1).cached_steps
