"""What holds for every method that decides as it runs, from one list (the toy of `toys.py`; against
loops of the originals: tests/parity/test_deciding_caches.py).
"""

import dataclasses
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.caching import forecasts, live_forecasts, notation
from skipdit_jax.caching.decisions import Movement
from skipdit_jax.diffusion.schedules import Diffusion, Parameterization
from skipdit_jax.sampling import loop
from skipdit_jax.sampling.guidance import Guidance
from skipdit_jax.sampling.steppers import Ddim
from tests.caching import toys
from tests.caching.test_methods import ROUNDING, off
from tests.caching.toys import Kind, draw, run_of

STEPS = 12
PLAIN, SKIPS, CLIP = Kind(), Kind(skips=2), Kind(names=toys.CLIP)


class Case(NamedTuple):
    """A method.

    Attributes:
      policy: one that computes some of the free steps and reuses others.
      never: the same with settings that reuse nothing.
      always: with settings that reuse whatever they may.
      kind: a network that it runs on.
    """

    policy: Any
    never: dict[str, Any]
    always: dict[str, Any]
    kind: Kind = PLAIN


SUMS = ({"threshold": 0}, {"threshold": 1e30})
RATES = ({"codebook": ((1.0, 1),)}, {"codebook": ((1.0, STEPS),)})
CASES = {
    "teacache": Case(sd.TeaCache(threshold=1.2), *SUMS),
    "teacache-polynomial": Case(sd.TeaCache(threshold=3.5, polynomial=(1, 2, 0)), *SUMS, SKIPS),
    "first-block": Case(sd.FirstBlockCache(threshold=1.1), *SUMS),
    "first-block-apart": Case(sd.FirstBlockCache(threshold=1.1, separate=True), *SUMS),
    "db-cache": Case(sd.DBCache(threshold=0.98, front=1, back=1, warmup=2), *SUMS, SKIPS),
    "db-cache-taylor": Case(
        sd.DBCache(threshold=0.98, front=1, warmup=3, forecast="taylor2"), *SUMS, CLIP
    ),
    "db-cache-foca": Case(sd.DBCache(threshold=0.95, front=1, warmup=3, forecast="foca"), *SUMS),
    "adacache": Case(sd.AdaCache(codebook=((1.1, 3), (1.3, 2), (2.0, 1))), *RATES),
    "adacache-layers": Case(
        sd.AdaCache(codebook=((1.1, 3), (1.3, 2), (2.0, 1)), stages=(1, 2)), *RATES, CLIP
    ),
    "seacache": Case(sd.SeaCache(threshold=0.5, forecast="taylor1"), *SUMS),
    "easycache": Case(sd.EasyCache(threshold=0.4, first=3), *SUMS, SKIPS),
}
CASE = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def changed(case, settings):
    return dataclasses.replace(case.policy, **settings)


def ran(drawn):
    """Where the trunk was computed: kind 1."""
    return drawn.taps.kinds.trunk == 1


@CASE
def test_some_steps_are_reused_and_only_free_ones(case):
    drawn = draw(case.kind, case.policy, STEPS)
    computed = ran(drawn).reshape(STEPS, -1)
    free = drawn.plan.rows.decision.free
    assert computed[0].all()
    assert computed[~free].all()
    assert 0 < computed[free].mean() < 1
    plain = draw(case.kind, None, STEPS).taps
    first = int(np.argmin(computed.all(axis=1)))
    np.testing.assert_allclose(drawn.taps.sample[:first], plain.sample[:first], atol=1e-5)
    assert off(drawn.taps.model_output[first], plain.model_output[first]) > 1e-4


@CASE
def test_a_threshold_of_nothing_is_no_cache(case):
    drawn = draw(case.kind, changed(case, case.never), STEPS)
    assert ran(drawn).all()
    plain = draw(case.kind, None, STEPS).taps
    assert off(drawn.taps.model_output, plain.model_output) <= ROUNDING["scan"]


@CASE
def test_a_threshold_above_all_reuses_every_free_step(case):
    drawn = draw(case.kind, changed(case, case.always), STEPS)
    free = drawn.plan.rows.decision.free
    late = np.arange(STEPS) > 1  # a codebook first needs two computed steps
    assert not ran(drawn)[free & late].any()
    assert ran(drawn)[~free].all()


@CASE
def test_unchanging_inputs_are_reused_and_exact(case):
    drawn = draw(case.kind, case.policy, STEPS, still=True)
    free = drawn.plan.rows.decision.free
    assert not ran(drawn)[free][1:].all()
    assert off(drawn.taps.model_output, drawn.taps.model_output[:1]) < 2e-5


@CASE
def test_settings_are_data_and_nothing_is_left_of_the_last_run(case):
    first = draw(case.kind, case.policy, STEPS).taps
    known = toys.run._cache_size()
    other = draw(case.kind, changed(case, case.always), STEPS).taps
    assert not np.array_equal(other.sample, first.sample)
    again = draw(case.kind, case.policy, STEPS).taps
    assert all(map(np.array_equal, jax.tree.leaves(first), jax.tree.leaves(again)))
    assert toys.run._cache_size() == known


@pytest.mark.parametrize("name", ["db-cache", "seacache"])
def test_limits_and_masks_are_data_too(name):
    case = CASES[name]
    draw(case.kind, case.policy, STEPS)
    known = toys.run._cache_size()
    limited = draw(case.kind, changed(case, {**case.always, "most": 2}), STEPS)
    streaks = "".join(map(str, limited.taps.kinds.trunk.tolist())).split("1")
    assert max(map(len, streaks)) == 2
    if name == "db-cache":
        mask = (1, 1) + (0, 1) * ((STEPS - 2) // 2)
        settings = {**case.never, "mask": mask, "mask_decides": True}
        drawn = draw(case.kind, changed(case, settings), STEPS)
        assert drawn.taps.kinds.trunk.tolist() == list(mask)
        settings = {**case.always, "most_in_all": 3}
        assert (~ran(draw(case.kind, changed(case, settings), STEPS))).sum() == 3
    assert toys.run._cache_size() == known


@CASE
def test_another_driver_is_refused_in_a_line(case):
    with pytest.raises(ValueError, match=r"driver: found 'nested' .* wanted 'scan'"):
        draw(case.kind, case.policy, STEPS, driver="nested")


@CASE
def test_it_is_written_and_read_and_stands_alone(case):
    text = notation.write(case.policy)
    assert notation.read(text) == case.policy
    with pytest.raises(ValueError, match="decides as it runs stands alone"):
        notation.read(f"{text}+fora:3").plan(run_of(case.kind, STEPS))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("teacache(over='most')", "TeaCache: over is 'most', wanted one of mean, max, each"),
        ("teacache(polynomial='sora')", "TeaCache: polynomial is 'sora', wanted one of identity"),
        ("teacache(polynomial=(1,2,3,4,5,6))", "found 6 coefficients, wanted at most 5"),
        ("db-cache(front=0)", "DBCache: front is 0"),
        ("db-cache(warmup_every=0)", "warmup_every is 0, wanted 1 or more"),
        ("db-cache(mask=(1,2))", "a mask of other than 0 and 1"),
        ("db-cache(mask=(1,0),front=1)", "found a mask of 2 steps, wanted 12"),
        ("db-cache(front=9)", "leaves nothing to save"),
        ("adacache:quick", "codebook is 'quick', wanted one of slow, fast, hundred"),
        ("adacache(codebook=((0.1,0),))", "found a rate below 1"),
        ("adacache(motion=True)", "found motion on a model of pictures"),
        ("adacache(sublayer='tattn')", "found sub-layers attn, mlp in the model, wanted tattn"),
        ("adacache(stages=(4,))", "wanted some of 0 to 3"),
    ],
)
def test_settings_that_mean_nothing_are_refused_in_a_line(text, words):
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        notation.read(text).plan(run_of(PLAIN, STEPS))
    assert "\n" not in str(error.value)


def test_skips_that_the_back_needs_are_asked_for():
    with pytest.raises(ValueError, match="the last 2 stages need skips"):
        sd.DBCache(front=1, back=2).plan(run_of(SKIPS, STEPS))


COMPUTED = np.array([1, 1, 1, 0, 1, 0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 1, 0, 0], bool)


@pytest.mark.parametrize("name", ["taylor1", "taylor2", "taylor4", "foca"])
def test_forecasts_in_the_loop_are_those_of_the_host(name):
    """Sums of a ring that is filled as each says: slots may be other ones."""
    live, host = live_forecasts.by_name(name), forecasts.by_name(name)(COMPUTED)
    values = np.random.default_rng(0).standard_normal(len(COMPUTED))
    past, rings = live.start(), [np.zeros(host.ring.slots), np.zeros(host.ring.slots)]
    for step, computed in enumerate(COMPUTED):
        row, past = live.follow(past, jnp.int32(step), jnp.bool_(computed))
        told = [(int(row.write), np.asarray(row.weights))]
        told.append((host.rows.write[step], host.rows.weights[step]))
        sums = []
        for ring, (write, weights) in zip(rings, told, strict=True):
            sums.append(ring @ weights)
            if computed and live.ring.folds:
                ring[-1] = sums[-1]
            if computed:
                ring[write] = values[step]
        if not computed:
            np.testing.assert_allclose(*sums, rtol=1e-4, atol=1e-4)


def test_movement_of_a_batch():
    """Two samples, guided: rows of both halves, one behind the other."""
    part, whole = (jnp.array(x, jnp.float32) for x in ([1, 0, 3, 2], [2, 8, 2, 4]))
    mean, most = Movement(), Movement("max", jnp.array([True, True]))
    assert float(mean(part, whole)) == 6 / 16
    np.testing.assert_allclose(mean(part, whole, pooled=False), (0.5 + 0 + 1.5 + 0.5) / 4)
    assert float(most(part, whole)) == 1.0  # the first sample's, of both halves
    first = jnp.array([True, False])
    assert float(Movement("mean", first)(part, whole)) == 1.0
    assert float(Movement("max", ~first)(part, whole)) == pytest.approx(2 / 12)
    np.testing.assert_allclose(Movement("mean", ~first)(part, whole, pooled=False), 0.25)
    nothing = jnp.zeros(4)
    assert float(mean(nothing, nothing)) == 0
    assert float(mean(part, nothing)) == np.inf


def close(found, wanted):
    """But for rounding, which goes with the largest numbers."""
    np.testing.assert_allclose(found, wanted, rtol=0, atol=5e-5 * np.abs(wanted).max())


def test_easycache_by_hand():
    """The rule of its paper, step by step in numpy, around the whole network."""
    kind, policy = Kind(guided=False), CASES["easycache"].policy
    drawn = draw(kind, policy, STEPS)
    inputs = loop.step_inputs(Diffusion(spacing=str(STEPS)), Guidance(scale=toys.SCALE))
    shape = (toys.BATCH, toys.SIDE, toys.SIDE, toys.CHANNELS)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    labels = jnp.arange(toys.BATCH, dtype=jnp.int32) % 2
    model, how = toys.network(kind), Parameterization(variance="fixed_small")
    total, rate, before, at = 0.0, None, None, None
    for step in range(STEPS):
        reused = False
        if policy.first <= step < STEPS - 1 and rate is not None:
            total += rate * np.abs(x - before).mean() / np.abs(at[1]).mean()
            reused = total < policy.threshold
            assert drawn.taps.compared[step] == pytest.approx(total, rel=1e-4)
        before = x
        if reused:
            v = x + (at[1] - at[0])
        else:
            h, c = model.embed(x, jnp.full(len(x), inputs.t[step]), labels)
            v = np.asarray(model.head(model.run(h, c, {}, 0, toys.STAGES)[0], c))
            if at is not None:
                rate = np.abs(v - at[1]).mean() / np.abs(x - at[0]).mean()
            at, total = (x, v), 0.0
        assert drawn.taps.kinds.trunk[step] == (not reused)
        close(drawn.taps.model_output[step], v)
        row = jax.tree.map(lambda column: jnp.asarray(column[step]), inputs.c)  # noqa: B023
        x = np.asarray(Ddim().step(how, row, *map(jnp.asarray, (v, x, x * 0)), ())[0])
        close(drawn.taps.sample[step], x)
