"""Whole sampling loops against the original: every step's network output, sample, and full flag."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skipdit_jax.caching.engine import EMPTY
from skipdit_jax.caching.intervals import interval_reuse
from skipdit_jax.caching.methods.skip_cache import SkipCache
from skipdit_jax.caching.plan import Run
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.models.stack import bind
from skipdit_jax.sampling import loop
from skipdit_jax.sampling.denoiser import make_denoiser
from skipdit_jax.sampling.guidance import Guidance
from skipdit_jax.sampling.steppers import Ddim, Ddpm
from tests.parity.goldens import channel_last
from tests.parity.models import model_of, params_of

LOOP = 5e-5  # of each step's rms: docs/notes.md, Goldens
STEPPERS = {"ddpm": Ddpm, "ddim": Ddim}


def policy_of(golden, variant):
    """The cache of a variant's name ("N3", "N2_clip", "N3_branch2", "uncached")."""
    every, _, option = variant.removeprefix("N").partition("_")
    if not every.isdecimal():
        return None
    config = golden.config
    branch = int(option.removeprefix("branch")) if option.startswith("branch") else 1
    return SkipCache(
        every=int(every),
        branch=config.get("skip_at_branch", branch),
        start=config["start_at"],
        stop=config["close_at"] - is_latte(golden),  # Latte's threshold is "below", not "at most"
    )


def is_latte(golden):
    return "Latte" in golden.config["cls"]


def spacing_of(golden, prefix, method):
    """Latte's loops are called by sampler and spacing, "ddim_ddim20"; others record it."""
    if "_" in method:
        return method.split("_", 1)[1]
    if prefix + "respacing" in golden:
        return str(golden[prefix + "respacing"])
    return str(len(golden[f"{prefix}{method}/t"]))


def guidance_of(golden, prefix):
    """(scale, guided channels); a scale of 1 is no guidance."""
    if is_latte(golden):
        return golden.config["cfg_scale"], None
    return float(golden[prefix + "cfg_scale"]), 3


def replay(golden, prefix, method, variant, driver="scan"):
    """Our loop on the recorded noise; returns (diffusion, plan, taps)."""
    model = model_of(golden)
    scale, channels = guidance_of(golden, prefix)
    half = len(golden[prefix + "z"]) // 2 or 1
    z = jnp.asarray(channel_last(golden[prefix + "z"]))
    labels = null = None
    if model.config.num_classes:
        y = jnp.asarray(golden[prefix + "y"], jnp.int32)
        labels, null = y[:half], y[half:]
    rows = slice(0, half)
    noises = jnp.asarray(channel_last(golden[f"{prefix}{method}/noise"]))[:, rows]
    diffusion = Diffusion(spacing=spacing_of(golden, prefix, method))
    inputs = loop.step_inputs(diffusion, Guidance(scale=scale))
    policy = policy_of(golden, variant)
    run_of = Run(diffusion.timesteps[::-1], model.num_stages, model.num_skips)
    plan = policy and policy.plan(run_of)
    stepper = STEPPERS[method.split("_")[0]](clip=variant.endswith("_clip"))
    steps = loop.Steps(plan.kinds, plan.rows) if plan else loop.Steps()
    data = (params_of(golden, model), z[rows], labels, null, noises, inputs)
    sockets = plan.sockets if plan else EMPTY
    how = (model, stepper, diffusion.parameterization, channels, sockets, driver)
    if plan is None or driver == "scan":
        taps = run(*data, steps, *how)
    else:  # where the plan is no data
        taps = jax.jit(lambda *data: run.__wrapped__(*data, steps, *how))(*data)
    return diffusion, plan, jax.device_get(taps)


@partial(jax.jit, static_argnames=("model", "stepper", "kind", "channels", "sockets", "driver"))
def run(
    params, z, labels, null, noises, inputs, steps, model, stepper, kind, channels, sockets, driver
):
    """What every step gave; one program serves all plans of the same trunk."""
    denoiser = make_denoiser(bind(model, params), z, labels, null, channels, sockets)
    _, taps = loop.run(
        denoiser,
        stepper,
        kind,
        z,
        inputs,
        lambda index: noises[index],
        plan=steps,
        driver=driver,
        taps=True,
        details=True,
    )
    return taps


def compare(got, want, name, limit=LOOP):
    """Every step at the limit, relative to that step's own rms."""
    want = channel_last(want)[:, : got.shape[1]]
    axes = tuple(range(1, want.ndim))
    rms = np.sqrt(np.mean(np.square(want, dtype=np.float64), axis=axes))
    worst = np.max(np.abs(got - want), axis=axes) / rms
    step = int(np.argmax(worst))
    assert np.all(worst <= limit), f"{name}: step {step} deviates by {worst[step]:.2e}"


def check_loop(golden, prefix, method, variant):
    diffusion, plan, taps = replay(golden, prefix, method, variant)
    key = f"{prefix}{method}"
    assert np.array_equal(diffusion.timesteps[::-1], golden[f"{key}/t"]), f"{key}/t"
    assert np.array_equal(np.arange(diffusion.num_steps)[::-1], golden[f"{key}/i"]), f"{key}/i"
    recorded = f"{key}/{variant}" if variant else key
    if f"{recorded}/model_out" in golden:
        compare(taps.model_output, golden[f"{recorded}/model_out"], f"{recorded}/model_out")
    compare(taps.sample, golden[f"{recorded}/sample"], f"{recorded}/sample")
    if plan:
        assert np.array_equal(~plan.reuse, golden[f"{recorded}/full"]), f"{recorded}/full"
        if f"{recorded}/nblocks" in golden:
            (span,) = plan.sockets.trunk.spans
            left_out = (span.hi - span.lo) * (2 if is_latte(golden) else 1)  # blocks of a stage
            ran = golden.config["depth"] - np.where(plan.reuse, left_out, 0)
            assert np.array_equal(ran, golden[f"{recorded}/nblocks"]), f"{recorded}/nblocks"


def variants(golden, method):
    suffix = "/sample"
    keys = golden.under(f"{method}/")
    return [key.removesuffix(suffix) for key in keys if key.endswith(suffix)]


@pytest.mark.golden("dit_skip_cache*")
@pytest.mark.parametrize("method", STEPPERS)
def test_cached_loops(golden, method):
    found = variants(golden, method)
    assert {"uncached", "N2", "N3"} <= set(found)
    for variant in found:
        check_loop(golden, "", method, variant)


@pytest.mark.golden("latte_skip_cache*")
def test_cached_loops_of_videos(golden):
    methods = [key.removesuffix("/noise") for key in golden.arrays if key.endswith("/noise")]
    assert {"ddpm_20", "ddim_20"} <= set(methods)
    for method in methods:
        found = variants(golden, method)
        assert {"uncached", "N2"} <= set(found)
        for variant in found:
            check_loop(golden, "", method, variant)


@pytest.mark.golden("dit", "dit_skip")
@pytest.mark.parametrize("method", STEPPERS)
def test_short_loops(golden, method):
    check_loop(golden, "sample8/", method, "")
    assert f"sample8/{method}/sample" in golden


@pytest.mark.golden("dit_skip_cache")
@pytest.mark.parametrize("driver", ["nested", pytest.param("unrolled", marks=pytest.mark.slow)])
def test_other_drivers_follow_the_original(golden, driver):
    _, _, taps = replay(golden, "", "ddpm", "N3_clip", driver)
    compare(taps.sample, golden["ddpm/N3_clip/sample"], driver)
    assert np.isfinite(taps.sample).all()


@pytest.mark.golden("dit_skip_cache")
@pytest.mark.parametrize(
    "key",
    ["ddpm/noise", "ddim/N3/model_out", "ddpm/N2/sample", "ddpm/N2/full", "ddpm/N3_clip/sample"],
)
def test_damage_is_seen(golden, key):
    method, variant = key.split("/")[:2]
    variant = variant if variant.startswith("N") else "N3_clip"
    # One step of the first sample: the second half of a guided batch is not compared.
    region = (slice(5, 6), slice(0, 1)) if golden[key].ndim > 1 else ()
    with pytest.raises(AssertionError):
        check_loop(golden.damaged(key, region, by=1e-2), "", method, variant)


@pytest.mark.golden("latte_skip_cache_cfg")
@pytest.mark.parametrize(
    "key",
    ["ddpm_20/noise", "ddim_20/N3_branch2/sample", "ddim_20/N2/full"],
)
def test_damage_to_loops_of_videos_is_seen(golden, key):
    method, variant = key.split("/")[:2]
    variant = variant if variant.startswith("N") else "N2_clip"
    region = (slice(5, 6), slice(0, 1)) if golden[key].ndim > 1 else ()
    with pytest.raises(AssertionError):
        check_loop(golden.damaged(key, region, by=1e-2), "", method, variant)


def check_schedules(golden):
    """Full-step flags of the originals for many step counts, and for arbitrary sequences."""
    thresholds = json.loads(str(golden["meta"])) if "meta" in golden else {}
    compared = 0
    for key, full in golden.arrays.items():
        family, *rest = key.split("/")
        if family not in THRESHOLDS:
            continue
        start, stop = thresholds.get(family, THRESHOLDS[family])
        timesteps = golden[f"t/{'/'.join(rest[:-1])}"]
        reuse = interval_reuse(timesteps, int(rest[-1].removeprefix("N")), start, stop)
        assert np.array_equal(~reuse, full), key
        compared += 1
    assert compared, "no schedule found"


THRESHOLDS = {"dit": (1000, 20), "latte": (900, 49)}


@pytest.mark.golden("cache_schedule")
def test_schedules(golden):
    check_schedules(golden)
    assert golden.under("dit/")


@pytest.mark.golden("cache_schedule")
def test_damaged_schedule_is_seen(golden):
    with pytest.raises(AssertionError):
        check_schedules(
            golden.damaged(next(key for key in golden.arrays if key.startswith("dit/")))
        )
