"""Plans, weights and FLOPs against `tests/golden/caching.json`; forecasts against what they mean.

The file was made by following the authors' code step by step (set of `caching_golden.json`): the
steps of a plan as letters (F computed, C reused, r and f the rear and front blocks reused), weights
of TaylorSeer by step, counted down to 0, and FLOPs of DiT-XL/2.
"""

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.caching import rings
from skipdit_jax.caching.forecasts import MAX_ORDER, by_name, taylor_weights
from skipdit_jax.caching.methods.deep_cache import quad_center
from skipdit_jax.caching.plan import Run
from skipdit_jax.caching.presets import LATTE_SKIP_CACHE
from skipdit_jax.caching.summary import flops_of_steps
from skipdit_jax.diffusion.schedules import Diffusion

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "caching.json").read_text())
PAIR = ("attn", "mlp")
DEPTH = 28
TERA = 1e12
ROWS = 2  # of a guided picture


def run_of(steps, skips=0):
    timesteps = Diffusion(spacing=str(steps)).timesteps[::-1]
    return Run(timesteps, DEPTH, skips, PAIR, guided=True)


def letters(plan, names="CF"):
    kinds = plan.kinds.sub if plan.kinds.trunk is None else plan.kinds.trunk
    return "".join(names[kind] for kind in kinds)


def recorded(family):
    """(steps, N, letters) of a family."""
    for name, wanted in GOLDEN[family].items():
        steps, every = name.removeprefix("S").split("_N")
        yield int(steps), int(every), wanted


@pytest.mark.parametrize(
    ("family", "start", "stop"),
    [("skip_cache_c2i", 1000, 20), ("skip_cache_latte_c2v", 900, LATTE_SKIP_CACHE.stop)],
)
def test_plans_of_skip_cache(family, start, stop):
    for steps, every, wanted in recorded(family):
        policy = sd.SkipCache(every=every, start=start, stop=stop)
        assert letters(policy.plan(run_of(steps, skips=14))) == wanted, (steps, every)


def test_plans_of_fora():
    for steps, every, wanted in recorded("fora"):
        assert letters(sd.Fora(every=every).plan(run_of(steps))) == wanted, (steps, every)


@pytest.mark.parametrize("name", GOLDEN["delta_dit_skipdit_reimpl"])
def test_plans_of_delta_dit(name):
    plan = sd.DeltaDiT().plan(run_of(int(name.removeprefix("S"))))
    assert letters(plan, "frF") == GOLDEN["delta_dit_skipdit_reimpl"][name]


def test_steps_of_faster_diffusion():
    plan = sd.FasterDiffusion().plan(run_of(250))
    wanted = GOLDEN["faster_diffusion_dit_ddpm250_demo_nonkey"]
    assert np.flatnonzero(plan.reuse).tolist() == wanted


@pytest.mark.parametrize("name", GOLDEN["deepcache_quad_center"])
def test_lists_of_deepcache(name):
    steps, full = name.split("_k")
    case = GOLDEN["deepcache_quad_center"][name]
    wanted = case["indices"]
    assert quad_center(int(steps), int(full), 15, case["pow"]) == wanted
    policy = sd.DeepCache(full=int(full))
    assert np.flatnonzero(~policy.plan(run_of(int(steps), skips=14)).reuse).tolist() == wanted


@pytest.mark.parametrize("name", GOLDEN["taylorseer_ddim50"])
def test_steps_and_weights_of_taylorseer(name):
    interval, order = (int(part[1:]) for part in name.split("_"))
    case, last = GOLDEN["taylorseer_ddim50"][name], 49
    plan = sd.TaylorSeer(interval=interval, order=order).plan(run_of(50))
    full = np.flatnonzero(~plan.reuse)
    assert (last - full).tolist() == case["full_steps_countdown"]
    write, weights = taylor_weights(~plan.reuse, order)
    assert len(case["weights"]) == int(plan.reuse.sum())
    for countdown, wanted in case["weights"].items():
        step = last - int(countdown)
        found = {last - k: weights[step, write[k]] for k in full[full < step][-(order + 1) :]}
        known = {int(k): w for k, w in wanted.items()}
        assert {k for k, w in found.items() if w} >= set(known)
        assert all(abs(w - known.get(k, 0.0)) < 1e-12 for k, w in found.items()), countdown
    assert np.array_equal(plan.rows.sub.ring.weights, weights.astype(np.float32))


def test_flops_of_dit():
    """Of one guided picture, 50 steps."""
    costs = sd.create_model("DiT-XL/2").costs
    wanted = GOLDEN["flops_TF_per_image_cfg2_ddim50"]
    assert ROWS * 50 * costs.total() / TERA == pytest.approx(wanted["baseline"], rel=1e-9)
    fora = flops_of_steps(sd.Fora(every=3).plan(run_of(50)), costs)
    assert ROWS * fora.sum() / TERA == pytest.approx(wanted["fora_N3"], rel=1e-9)


def differences(computed, order, values):
    """Y of each step by the recursion of the paper, on the values themselves."""
    kept, last, found = [], 0, []
    for step, now in enumerate(computed):
        if now:
            new = [values[step]]
            for older in kept[:order]:
                new.append((new[-1] - older) / (step - last))
            kept, last = new, step
        terms = (d * (step - last) ** i / math.factorial(i) for i, d in enumerate(kept))
        found.append(sum(terms))
    return np.array(found)


PATTERNS = {
    "paper": sd.TaylorSeer(interval=4, order=4).plan(run_of(30)).reuse,
    "uneven": ~np.isin(np.arange(30), [0, 1, 3, 4, 9, 11, 17, 18, 25]),
}


@pytest.mark.parametrize("order", range(1, MAX_ORDER + 1))
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_ring_of_values_is_the_recursion_of_differences(pattern, order):
    computed = ~PATTERNS[pattern]
    values = np.random.default_rng(order).standard_normal((len(computed), 3))
    write, weights = taylor_weights(computed, order)
    slots, found = np.zeros((order + 1, 3)), []
    for step, now in enumerate(computed):
        if now:
            slots[write[step]] = values[step]
        found.append(values[step] if now else weights[step] @ slots)
    wanted = differences(computed, order, values)
    assert np.max(np.abs(np.array(found) - wanted)) < 1e-12 * np.max(np.abs(wanted))


def forecast(name, computed, values):
    """What the engine's rings make of values that only the computed steps see."""
    ring, rows = by_name(name)(computed)

    def step(slots, row):
        now, value, numbers = row
        access = rings.Access(ring, numbers)
        read = access.read(slots)
        slots = jnp.where(now, access.write(slots, value), slots)
        return slots, jnp.where(now, value, read)

    shape = jax.ShapeDtypeStruct(values.shape[1:], np.float32)
    inputs = (computed, values.astype(np.float32), rows)
    return np.asarray(jax.lax.scan(step, rings.empty(ring, shape), inputs)[1])


def foca(computed, values):
    """Y of each step by the published recursion, on the values themselves."""
    full, last, found, since = [], [], [], 0
    for step, now in enumerate(computed):
        since = 0 if now else since + 1
        if now:
            full = [*full, values[step]][-2:]
            found.append(values[step])
        elif len(full) < 2:
            found.append(full[-1])
        else:
            slope = (full[1] - full[0]) + (last[1] - last[0])
            found.append(full[1] + (since / 2 if since <= 3 else 3 / since * 1.5) * slope)
        last = [*last, found[-1]][-2:]
    return np.array(found)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_foca_folds_is_its_recursion(pattern):
    computed = ~PATTERNS[pattern]
    values = np.random.default_rng(0).standard_normal((len(computed), 3))
    wanted = foca(computed, values)
    found = forecast("foca", computed, values)
    assert np.max(np.abs(found - wanted)) < 1e-5 * np.max(np.abs(wanted))


FORECASTS = ("hold", "foca", *(f"taylor{order}" for order in range(MAX_ORDER + 1)))


@pytest.mark.parametrize("name", FORECASTS)
def test_a_constant_is_forecast_as_it_is(name):
    values = np.full((30, 1), 3.0)
    for computed in (~PATTERNS["uneven"], np.arange(30) % 5 == 0):
        assert forecast(name, computed, values) == pytest.approx(3.0, abs=2e-5)


@pytest.mark.parametrize("name", FORECASTS)
def test_a_line_is_forecast_by_a_slope(name):
    """Those without one, and the slope of FoCa that knows no spacing, are off."""
    computed = ~PATTERNS["uneven"]
    values = np.arange(30.0)[:, None] + 1
    worst = np.max(np.abs(forecast(name, computed, values) - values))
    assert (worst < 2e-4) == (name in ("taylor1", "taylor2", "taylor3", "taylor4"))
    if name in ("hold", "taylor0"):
        assert worst == 6  # steps since the last computed one
