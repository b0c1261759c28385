"""Caches that decide as they run, against loops of their originals: decisions, numbers, samples."""

import jax.numpy as jnp
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.caching.latents import FilterRow, filtered
from skipdit_jax.diffusion.schedules import Diffusion
from tests.parity.cached import of_set_d, replay, run_of
from tests.parity.goldens import assert_close, channel_last
from tests.parity.models import model_of
from tests.parity.test_caches import STEP
from tests.parity.test_loops import compare

NUMBERS = 1e-4  # relative, of compared numbers: golden/d/README.md
MOTION = 3e-4  # its eighth power amplifies
FORECASTS = {None: "hold", "foca": "foca"}


def follow(golden, group, policy, number, limit=NUMBERS):
    """Compares decisions, compared numbers, model outputs and samples of every step."""
    made = of_set_d(golden, group, policy)
    plan, taps = replay(golden, made)
    full = golden[f"{group}/full"]
    assert np.array_equal(taps.kinds.trunk.reshape(full.shape) == 1, full), f"{group}/full"
    assert_close(taps.compared.reshape(number.shape), number, limit, f"{group}/compared")
    for name, got, bound in zip(
        ("model_out", "sample"), (taps.model_output, taps.sample), made.limits, strict=True
    ):
        compare(got, golden[f"{group}/{name}"], f"{group}/{name}", bound)
    assert plan.reuse[~full.reshape(len(full), -1).all(axis=1)].all(), "steps that might be reused"


def follow_all(golden, policy_of, key, limit=NUMBERS):
    for group, how in golden.config["settings"].items():
        follow(golden, group, policy_of(how), golden[f"{group}/{key}"], limit)


def first_block_of(how):
    return sd.FirstBlockCache(threshold=how["threshold"], separate=how["mode"] == "separate")


@pytest.mark.golden("fbcache")
def test_first_block_cache(golden):
    follow_all(golden, first_block_of, "metric")


def teacache_of(how):
    return sd.TeaCache(threshold=how["threshold"], polynomial=tuple(how["coefficients"]))


@pytest.mark.golden("teacache")
def test_teacache(golden):
    follow_all(golden, teacache_of, "acc")


def db_cache_of(how):
    return sd.DBCache(
        threshold=how["residual_diff_threshold"],
        front=how["Fn_compute_blocks"],
        back=how["Bn_compute_blocks"],
        warmup=how["max_warmup_steps"],
        warmup_every=how.get("warmup_interval", 1),
        most=how.get("max_continuous_cached_steps"),
        most_in_all=how.get("max_cached_steps"),
        limit=how.get("max_accumulated_residual_diff_threshold"),
        mask=tuple(how.get("steps_computation_mask", ())),
        mask_decides=how.get("steps_computation_policy") == "static",
        forecast=FORECASTS.get(how["calibrator"], f"taylor{how['order']}"),
        separate=how["mode"] == "separate",
    )


@pytest.mark.golden("dbcache", "dbcache_latte")
def test_dbcache(golden):
    follow_all(golden, db_cache_of, "metric")


SUBLAYERS = {"t-attn": "tattn", "s-attn": "attn"}


def adacache_of(how):
    motion = {}
    if how.get("apply_moreg"):
        motion = {
            "motion": True,
            "strides": tuple(how["moreg_strides"]),
            "window": tuple(how["moreg_steps"]),
            "scale": tuple(how["moreg_hyp"][:3]),
            "weight": how["mograd_mul"],
        }
    return sd.AdaCache(
        codebook=tuple(map(tuple, how["codebook"])),
        sublayer=SUBLAYERS[how["cache_res"]],
        stages=tuple(how["cache_loc"]),
        **motion,
    )


@pytest.mark.golden("adacache")
def test_adacache(golden):
    for group, how in golden.config["settings"].items():
        number = golden[f"{group}/metric"][:, -1]
        limit = MOTION if how.get("apply_moreg") else NUMBERS
        follow(golden, group, adacache_of(how), number, limit)


def seacache_of(how):
    return sd.SeaCache(
        threshold=how["threshold"],
        forecast=f"taylor{how['residual_order']}",
        first=how["retention_steps"],
        last=how["cache_end_steps"],
        most=how["max_consecutive_cached"] or None,
        power=how["power_exp"],
    )


@pytest.mark.golden("seacache")
def test_seacache(golden):
    follow_all(golden, seacache_of, "acc")
    run = run_of(model_of(golden), Diffusion(spacing=str(golden.config["steps"])))
    assert_close(run.noise, golden["sigma"], 1e-6, "sigma")


@pytest.mark.golden("seacache")
def test_the_filter_of_seacache(golden):
    x = jnp.asarray(channel_last(golden["z"]))[:1]
    for name, want in golden.under("filter/").items():
        got = filtered(x, FilterRow(np.float32(name), np.float32(3.0)))
        assert_close(got, channel_last(want), 1e-5, name)


DAMAGED = {
    "fbcache": (test_first_block_cache, "metric"),
    "teacache": (test_teacache, "acc"),
    "dbcache": (test_dbcache, "metric"),
    "adacache": (test_adacache, "metric"),
    "seacache": (test_seacache, "acc"),
}


@pytest.mark.golden(*DAMAGED)
def test_another_decision_is_seen(golden):
    follows, _ = DAMAGED[golden.stem]
    group = next(iter(golden.config["settings"]))
    with pytest.raises(AssertionError, match=f"{group}/full"):
        follows(golden.damaged(f"{group}/full"))


@pytest.mark.golden("fbcache")
@pytest.mark.parametrize(
    ("key", "told", "region"),
    [
        ("metric", "compared", ()),
        ("model_out", "model_out", STEP),
        ("sample", "sample", STEP),
    ],
)
def test_other_numbers_are_seen(golden, key, told, region):
    group = next(iter(golden.config["settings"]))
    with pytest.raises(AssertionError, match=f"{group}/{told}"):
        test_first_block_cache(golden.damaged(f"{group}/{key}", region, by=1e-2))
