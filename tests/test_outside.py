"""Somebody else's family and caching method, from outside the package: what ours can, they can."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax import registry, runs, weights
from skipdit_jax.caching import notation
from skipdit_jax.caching.plan import CachePolicy
from skipdit_jax.cli import sample as sample_command
from skipdit_jax.contracts import Backbone, Conditioning
from skipdit_jax.registry import kinds
from tests import outside
from tests.networks import random_params

DIRECTIONS = [[1.0, 0.0], [0.0, -1.0], [0.6, 0.8]]
STEPS = {"steps": 6, "method": "ddim", "clip": True}


@pytest.fixture(autouse=True)
def registered():
    """Registers both for the length of a test."""
    tables = (kinds.FAMILIES, notation.POLICIES)
    before = [dict(table) for table in tables]
    yield outside.register()
    for table, content in zip(tables, before, strict=True):
        table.clear()
        table.update(content)


@pytest.fixture
def model():
    return sd.create_model("Arrow-S")


@pytest.fixture
def params(model):
    return random_params(model)


def draw(model, params, **options):
    drawn = sd.sample(model, params, jax.random.key(0), DIRECTIONS, **{**STEPS, **options})
    return np.asarray(drawn)


def test_they_keep_the_contracts(model):
    assert isinstance(model, Backbone)
    assert isinstance(model.conditioning, Conditioning)
    assert isinstance(outside.EveryOther(), CachePolicy)
    assert registry.family_of(model) == "arrow"


def test_names_make_models():
    assert sd.create_model("Arrow-L").config.depth == 10
    assert sd.create_model("arrow-tiny", width=4).config == outside.ArrowConfig(width=4, depth=4)
    assert {"Arrow-S", "Arrow-L", "arrow-tiny"} <= set(registry.model_names())
    with pytest.raises(ValueError, match="arrow: unknown option heads; it takes side, width"):
        sd.create_model("Arrow-S", heads=2)


def test_the_condition_is_checked_by_its_own_kind(model, params):
    with pytest.raises(ValueError, match=r"directions: found shape \(3, 1\), wanted \(3, 2\)"):
        sd.sample(model, params, jax.random.key(0), [[1.0]] * 3, **STEPS)


def test_guidance_uses_its_null(model, params):
    """Far from the null the guided prediction is another; a null condition is not moved by it."""
    assert np.abs(draw(model, params, guidance=3.0) - draw(model, params)).max() > 1e-3
    at_null = {"labels": np.zeros((2, 2)), **STEPS}
    key = jax.random.key(0)
    plain = sd.sample(model, params, key, **at_null)
    guided = sd.sample(model, params, key, guidance=3.0, **at_null)
    np.testing.assert_allclose(guided, plain, atol=1e-5)


@pytest.mark.parametrize("driver", ["scan", "nested", "unrolled"])
def test_its_policy_runs_in_every_driver(model, params, driver):
    cached = draw(model, params, cache=outside.EveryOther(ends=1), driver=driver)
    assert np.abs(cached - draw(model, params)).max() > 1e-4
    scan = draw(model, params, cache=outside.EveryOther(ends=1))
    np.testing.assert_allclose(cached, scan, atol=1e-5)


def test_what_it_leaves_open_is_as_published_for_the_family(model, params):
    """The family publishes two stages at each end; a method of another name leaves that alone."""
    sampler = sd.Sampler(model, cache=outside.EveryOther(), **STEPS)
    assert sampler.cache == outside.EveryOther(ends=2)
    one, two = (draw(model, params, cache=outside.EveryOther(ends=n)) for n in (1, 2))
    found = draw(model, params, cache=outside.EveryOther())
    assert np.array_equal(found, two)
    assert not np.array_equal(found, one)
    assert sampler.summary(3).cached_steps == 3
    ours = sd.Sampler(model, cache=sd.SkipCache(every=3), **STEPS)
    assert ours.cache == sd.SkipCache(every=3)


def test_our_models_take_its_policy():
    small = {"depth": 4, "hidden_size": 16, "num_heads": 2, "input_size": 4, "num_classes": 3}
    dit = sd.create_model("DiT-S/2-skip", **small)
    params = random_params(dit)
    cache = notation.read("every-other(ends=1)")
    cached, plain = (
        np.asarray(sd.sample(dit, params, jax.random.key(0), [1, 2], cache=c, **STEPS))
        for c in (cache, None)
    )
    assert np.isfinite(cached).all()
    assert not np.array_equal(cached, plain)


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
def test_its_checkpoints_are_told_by_their_names_and_come_back(tmp_path, model, params, name):
    sd.export_checkpoint(tmp_path / name, params, model)
    checkpoint = weights.open_known(tmp_path / name)
    assert checkpoint.family.name == "arrow"
    assert set(checkpoint.handles) >= {"turn.weight", "body.5.bias", "join.0.weight"}
    again, back = sd.load_checkpoint(tmp_path / name)
    assert again.config == model.config
    jax.tree.map(np.testing.assert_array_equal, back, params)


def test_its_models_cannot_carry_a_process_and_this_is_told(tmp_path, model, params):
    process = {"diffusion": {"prediction": "v", "variance": "fixed_large"}}
    sd.export_checkpoint(tmp_path / "x.safetensors", params, model, layout="native", **process)
    with pytest.warns(UserWarning, match=r"prediction 'v'.*does not carry: give sample"):
        found, _ = sd.load_checkpoint(tmp_path / "x.safetensors")
    assert registry.trained(found) is None


def test_sample_py_takes_its_policy(tmp_path, capsys):
    flags = ["--num-sampling-steps", "4", "--class-labels", "3", "--cache", "every-other(ends=2)"]
    assert sample_command.main([*flags, "--out", str(tmp_path / "x.png")]) == 0
    assert "2 steps computed, 2 reused" in capsys.readouterr().out


def test_sample_py_tells_what_it_has_no_flag_for(tmp_path, model, params, capsys):
    """It opens the family's files; directions cannot be typed as classes."""
    native = tmp_path / "arrow.safetensors"
    sd.export_checkpoint(native, params, model, layout="native")
    with pytest.raises(SystemExit) as ended:
        sample_command.main(["--ckpt", str(native), "--out", str(tmp_path / "x.png")])
    assert ended.value.code == 2
    assert "sample.py: error: directions: found shape ()" in capsys.readouterr().err


def test_a_training_run_of_it(tmp_path):
    config = runs.default_config()
    config.steps, config.batch_size, config.lr, config.ema_decay = 3, 4, 1e-2, 0.0
    config.model.name, config.data.name = "arrow-tiny", "digits"
    config.model.side = 8
    config.diffusion.variance = "fixed_large"
    seen = []
    state = runs.run_training(runs.prepare_training(config, tmp_path / "run"), watch=seen.append)
    assert int(state.step) == 3
    assert np.isfinite(seen[-1]["loss"])
    model, params = sd.load_checkpoint(tmp_path / "run")
    assert registry.family_of(model) == "arrow"
    for found, trained in zip(jax.tree.leaves(params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_array_equal(found, jnp.asarray(trained))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "register arrow: family arrow has that name or config ArrowConfig"),
        ({"config": int, "label": "DiT"}, "register arrow: family arrow has that name"),
    ],
)
def test_a_family_is_registered_once(changes, told):
    known = kinds.FAMILIES["arrow"]
    again = {"label": "Arrow", "config": known.config, "module": known.module, **changes}
    with pytest.raises(ValueError, match=told):
        sd.register_family(sd.Family(layout=known.layout, **again))


def test_a_name_belongs_to_one_family():
    other = dataclasses.replace(outside.LAYOUT, name="other")
    family = sd.Family(label="DiT", config=int, module=outside.Arrow, layout=other)
    with pytest.raises(ValueError, match="register_family other: DiT is of family dit"):
        sd.register_family(family)
