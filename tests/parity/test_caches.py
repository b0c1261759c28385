"""Every static caching method against loops of its original: kinds, model outputs, samples."""

import dataclasses
import json

import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.caching.forecasts import by_name
from skipdit_jax.caching.methods.deep_cache import quad_center
from skipdit_jax.caching.methods.smooth_cache import learned_masks
from skipdit_jax.caching.planning import reuse_middle
from tests.parity.cached import assert_computed, check, of_set_c, of_set_d

PAIR = ("attn", "mlp")


def groups(golden, suffix="/sample"):
    return [key.removesuffix(suffix) for key in golden.arrays if key.endswith(suffix)]


def setting(golden, group):
    return json.loads(str(golden[f"{group}/setting"]))


@pytest.mark.golden("fora")
def test_fora(golden):
    for group in groups(golden):
        policy = sd.Fora(every=setting(golden, group)["N"])
        plan = check(golden, of_set_c(golden, group, policy))
        assert np.array_equal(~plan.reuse, golden[f"{group}/full"]), group
        assert_computed(golden, plan, f"{group}/computed", PAIR)


@pytest.mark.golden("taylorseer")
def test_taylorseer(golden):
    for group in groups(golden):
        how = setting(golden, group)
        policy = sd.TaylorSeer(interval=how["interval"], order=how["max_order"])
        plan = check(golden, of_set_c(golden, group, policy))
        assert np.array_equal(~plan.reuse, golden[f"{group}/full"]), group


@pytest.mark.golden("taylorseer_diffusers")
def test_taylorseer_as_the_hook_of_diffusers(golden):
    for group, how in golden.config["settings"].items():
        policy = sd.TaylorSeer(
            interval=how["cache_interval"],
            order=how["max_order"],
            phase="diffusers",
            warmup=how["disable_cache_before_step"],
            until=how.get("disable_cache_after_step"),
            lite="skip_predict_identifiers" in how,
        )
        plan = check(golden, of_set_d(golden, group, policy))
        assert np.array_equal(~plan.reuse, golden[f"{group}/full"]), group


@pytest.mark.golden("smoothcache")
def test_smoothcache(golden):
    for group in groups(golden):
        if group.endswith("/calib"):
            continue
        schedule = json.loads(str(golden[f"{group}/schedule"]))
        plan = check(golden, of_set_c(golden, group, sd.SmoothCache.of(schedule)))
        assert_computed(golden, plan, f"{group}/computed", PAIR)


@pytest.mark.golden("l2c")
def test_learning_to_cache(golden):
    for group in groups(golden):
        router = golden[f"{group}/router_prob"]
        policy = sd.SmoothCache.of(learned_masks(router, setting(golden, group)["thres"]))
        plan = check(golden, of_set_c(golden, group, policy))
        assert_computed(golden, plan, f"{group}/computed", PAIR)


@pytest.mark.golden("delta_dit")
def test_delta_dit(golden):
    depth = golden.config["depth"]
    for group in groups(golden):
        plan = check(golden, of_set_c(golden, group, sd.DeltaDiT()))
        ran = np.ones((plan.steps, depth), bool)
        for number, span in enumerate(plan.sockets.trunk.spans):
            ran[plan.kinds.trunk == number, span.lo : span.hi] = False
        assert np.array_equal(np.repeat(ran[..., None], 2, -1), golden[f"{group}/computed"]), group


@pytest.mark.golden("faster_50", "faster_250")
def test_faster_diffusion(golden):
    for group in groups(golden):
        how = setting(golden, group)
        if how.get("parallel"):  # its defects are not imitated
            continue
        full = tuple(sorted({*range(how["steps"])} - {*how["nonkey"]}))
        plan = check(golden, of_set_c(golden, group, sd.FasterDiffusion(full=full)))
        assert np.array_equal(np.flatnonzero(plan.reuse), how["nonkey"])


@pytest.mark.golden("pab")
def test_pab(golden):
    for group, how in golden.config["settings"].items():
        policy = pab_of(group, how)
        plan = check(golden, of_set_d(golden, group, policy))
        both = ("attn", "tattn"), ("mlp", "tmlp")
        for names, key in zip(both, ("attn_full", "mlp_full"), strict=True):
            want = golden[f"{group}/{key}"]
            got = np.ones(want.shape, bool)
            for column, (stage, name) in enumerate(plan.sockets.sub.sites):
                if name in names:
                    got[:, 2 * stage + names.index(name)] = plan.computed()[:, column]
            assert np.array_equal(got, want), f"{group}/{key}"


def pab_of(group, how):
    if group.startswith("videosys"):
        return sd.Pab(
            spatial=how["spatial_range"],
            temporal=how["temporal_range"],
            low=how["spatial_threshold"][0],
            high=how["spatial_threshold"][1],
            temporal_window=tuple(how["temporal_threshold"]),
            mlp=broadcasts(how.get("mlp_spatial_broadcast_config", ())),
            temporal_mlp=broadcasts(how.get("mlp_temporal_broadcast_config", ())),
        )
    low, high = how["spatial_attention_timestep_skip_range"]
    policy = sd.Pab(
        spatial=how["spatial_attention_block_skip_range"],
        temporal=how["temporal_attention_block_skip_range"],
        low=low,
        high=high,
        temporal_window=tuple(how["temporal_attention_timestep_skip_range"]),
        gated=False,
    )
    if "spatial_attention_block_identifiers" in how:
        return policy
    # Its default names match temporal layers too: they get the spatial range and window.
    return dataclasses.replace(policy, temporal=policy.spatial, temporal_window=None)


def broadcasts(listed):
    return tuple((timestep, tuple(stages), steps) for timestep, stages, steps in listed)


@pytest.mark.golden("magcache")
def test_magcache(golden):
    for group, how in golden.config["settings"].items():
        policy = sd.MagCache(
            ratios=tuple(map(float, golden[calibrated(golden, how)])),
            threshold=how["threshold"],
            max_skips=how["max_skip_steps"],
            retention=how["retention_ratio"],
        )
        plan = check(golden, of_set_d(golden, group, policy))
        assert np.array_equal(~plan.reuse, golden[f"{group}/full"]), group


def calibrated(golden, how):
    same = how["ratios_from_steps"] == golden.config["steps"]
    return "calib/ratios" if same else "calib/ratios_other"


@pytest.mark.golden("fastercache")
def test_fastercache(golden):
    for group, how in golden.config["settings"].items():
        plan = check(golden, of_set_d(golden, group, faster_of(how)))
        guide = plan.kinds.guide
        rows = np.full(plan.steps, 2) if guide is None else 1 + guide
        assert np.array_equal(rows, golden[f"{group}/rows"]), group
        want = golden[f"{group}/attn_full"]
        got = np.ones(want.shape, bool)
        if plan.sockets.sub is not None:
            for column, (stage, name) in enumerate(plan.sockets.sub.sites):
                got[:, 2 * stage + (name == "tattn")] = plan.computed()[:, column]
        assert np.array_equal(got, want), group


def faster_of(how):
    if how["variant"] == "original":
        return sd.FasterCache(attention=bool(how["attention_part"]), guidance=bool(how["cfg_part"]))
    assert how["spatial_attention_block_skip_range"] == how["temporal_attention_block_skip_range"]
    return sd.FasterCache(
        variant="diffusers",
        weight=how["attention_weight"],
        attention_every=how["spatial_attention_block_skip_range"],
        guidance_every=how["unconditional_batch_skip_range"],
        alpha=how["alpha_low_frequency"],
        spatial_window=tuple(how["spatial_attention_timestep_skip_range"]),
        temporal_window=tuple(how["temporal_attention_timestep_skip_range"]),
        guidance_window=tuple(how["unconditional_batch_timestep_skip_range"]),
        low_window=tuple(how["low_frequency_weight_update_timestep_range"]),
        high_window=tuple(how["high_frequency_weight_update_timestep_range"]),
    )


@dataclasses.dataclass(frozen=True)
class Decided:
    """What a method that decides has decided, on a model of so many stages at the ends."""

    full: tuple[bool, ...]
    front: int
    back: int
    forecast: str

    def plan(self, run):
        reuse = ~np.array(self.full)
        forecast = by_name(self.forecast)
        return reuse_middle(run, reuse, self.front, self.back, residual=True, forecast=forecast)


@pytest.mark.golden("dbcache_latte")
def test_forecasts_of_a_residual(golden):
    """FoCa and Taylor's polynomial, with the steps computed where DBCache decided so."""
    for group, how in golden.config["settings"].items():
        forecast = {None: "hold", "foca": "foca", "taylorseer": f"taylor{how['order']}"}
        full = tuple(golden[f"{group}/full"][:, 0].tolist())
        ends = how["Fn_compute_blocks"], how["Bn_compute_blocks"]
        check(golden, of_set_d(golden, group, Decided(full, *ends, forecast[how["calibrator"]])))


@pytest.mark.golden("deepcache_plans")
def test_deepcache_schedules(golden):
    cases = [case for case in json.loads(str(golden["table"])) if case["robust"]]
    assert cases
    for case in cases:
        arguments = (case["S"], case["n"], case["center"], case["pow"])
        if case["steps"] is None:
            with pytest.raises(ValueError, match="DeepCache: found no list"):
                quad_center(*arguments)
        else:
            assert quad_center(*arguments) == case["steps"], case


STEP = (slice(5, 6), slice(0, 1))  # of the first sample: a guided batch's second half is not there


@pytest.mark.golden("l2c")
@pytest.mark.parametrize(
    ("key", "region"), [("computed", ()), ("model_out", STEP), ("sample", STEP)]
)
def test_damage_to_loops_of_sublayers_is_seen(golden, key, region):
    group = "ddim20_clip"
    others = set(groups(golden)) - {group}
    arrays = {k: v for k, v in golden.arrays.items() if k.split("/")[0] not in others}
    one = dataclasses.replace(golden, arrays=arrays).damaged(f"{group}/{key}", region, by=1e-2)
    with pytest.raises(AssertionError, match=group):
        test_learning_to_cache(one)


@pytest.mark.golden("magcache")
@pytest.mark.parametrize(
    ("key", "region"),
    [("plan/full", ()), ("plan/sample", STEP), ("calib/ratios", (slice(20, 21),))],
)
def test_damage_to_loops_of_the_trunk_is_seen(golden, key, region):
    settings = {"plan": golden.config["settings"]["plan"]}
    one = dataclasses.replace(golden, config={**golden.config, "settings": settings})
    by = 1.0 if key == "calib/ratios" else 1e-2  # a schedule follows from these numbers
    with pytest.raises(AssertionError, match="plan"):
        test_magcache(one.damaged(key, region, by=by))


@pytest.mark.golden("deepcache_plans")
def test_damaged_lists_are_seen(golden):
    table = json.loads(str(golden["table"]))
    next(case for case in table if case["robust"] and case["steps"])["steps"][1] += 1
    with pytest.raises(AssertionError):
        test_deepcache_schedules(
            dataclasses.replace(golden, arrays={"table": np.array(json.dumps(table))})
        )
