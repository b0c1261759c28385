"""What holds for every static method, from one list: on models of images and of clips, plain and
with skips, guided or not (the toy of `toys.py`; real networks: tests/parity/test_caches.py).
"""

from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.caching import notation
from tests.caching import toys
from tests.caching.toys import EVERY_KIND, Kind, draw, run_of

STEPS = 6
ONES = (1,) * STEPS
EASY = {"retention": 0.0, "threshold": 0.5, "max_skips": 2}


class Case(NamedTuple):
    """A method.

    Attributes:
      policy: one that reuses something.
      full: settings with which it reuses nothing.
      exact: settings that are exact while the inputs do not change; None: `policy` is.
      other: another plan for the same program.
      needs: "skips", "plain" or "guided": what is refused without, and by which words.
    """

    policy: Any
    full: Any
    exact: Any = None
    other: Any = None
    needs: tuple[str, str] = ("", "")


SKIPS = ("skips", "needs long skips")
PLAIN = ("plain", "wanted a model without skips")
GUIDED = ("guided", "guidance")


def lists(**masks):
    return sd.SmoothCache.of({name.replace("_", "-"): steps for name, steps in masks.items()})


def of_each_layer(masks):
    return lists(**{f"{n}_{u}": steps for u, steps in enumerate(masks) for n in toys.IMAGE})


UNEVEN = [(1, 0, 1, 0, 1, 0), (1, 0, 0, 1, 1, 0), (1, 1, 0, 0, 1, 0), (1, 0, 0, 0, 0, 1)]
CASES = {
    "skip-cache": Case(
        sd.SkipCache(every=3, stop=-1),
        sd.SkipCache(every=1),
        other=sd.SkipCache(every=2, start=800, stop=100),
        needs=SKIPS,
    ),
    "deepcache": Case(
        sd.DeepCache(full=2), sd.DeepCache(full=STEPS), other=sd.DeepCache(full=3), needs=SKIPS
    ),
    "block-cache": Case(
        sd.BlockCache(every=3), sd.BlockCache(every=1), other=sd.BlockCache(every=2, stop=400)
    ),
    "block-cache-foca": Case(
        sd.BlockCache(every=2, forecast="foca"),
        sd.BlockCache(every=1, forecast="foca"),
        other=sd.BlockCache(every=3, forecast="foca"),
    ),
    "delta": Case(
        sd.DeltaDiT(every=3), sd.DeltaDiT(every=1), other=sd.DeltaDiT(boundary=200), needs=PLAIN
    ),
    "faster-diffusion": Case(
        sd.FasterDiffusion(full=(0, 3)),
        sd.FasterDiffusion(full=tuple(range(STEPS))),
        other=sd.FasterDiffusion(),
    ),
    "fora": Case(sd.Fora(every=3), sd.Fora(every=1), other=sd.Fora(every=2)),
    "smooth": Case(
        lists(attn=(1, 0, 1, 0, 0, 1), mlp=(1, 0, 0, 1, 0, 1)),
        lists(attn=ONES, mlp=ONES),
        other=lists(attn=(1, 1, 1, 0, 0, 0), mlp=(1, 0, 0, 0, 1, 1)),
    ),
    "learned": Case(
        of_each_layer(UNEVEN), of_each_layer([ONES] * 4), other=of_each_layer(UNEVEN[::-1])
    ),
    "pab": Case(
        sd.Pab(spatial=2, temporal=3, low=-1, high=1001),
        sd.Pab(spatial=1, temporal=1),
        other=sd.Pab(spatial=2, temporal=3, low=500, high=1001),
    ),
    "taylor": Case(
        sd.TaylorSeer(interval=3, order=2),
        sd.TaylorSeer(interval=1, order=2),
        other=sd.TaylorSeer(interval=4, order=2, phase="diffusers", until=5),
    ),
    "taylor-lite": Case(
        sd.TaylorSeer(interval=3, order=1, lite=True),
        sd.TaylorSeer(interval=1, order=1, lite=True),
        other=sd.TaylorSeer(interval=2, order=1, lite=True),
    ),
    "mag": Case(
        sd.MagCache(ratios=(1.0, 0.99), **EASY),
        sd.MagCache(ratios=(1.0, 0.99), **{**EASY, "max_skips": 0}),
        other=sd.MagCache(ratios=(1.0, 0.9), **{**EASY, "threshold": 0.15}),
    ),
    # The original's rows of attention beside guidance are another half's: exact without one of both
    "faster-cache": Case(
        sd.FasterCache(guidance=True),
        sd.FasterCache(guidance=True, attention_every=1, guidance_every=1),
        exact=sd.FasterCache(attention=False, guidance=True, alpha=1.0),
        other=sd.FasterCache(guidance=True, alpha=1.2, guidance_every=2),
        needs=GUIDED,
    ),
    "faster-cache-diffusers": Case(
        sd.FasterCache(variant="diffusers", spatial_window=(-1, 1001), guidance_window=(-1, 1001)),
        sd.FasterCache(variant="diffusers", attention_every=1, guidance_every=1),
        exact=sd.FasterCache(variant="diffusers", alpha=1.0, guidance_window=(-1, 1001)),
        other=sd.FasterCache(variant="diffusers", alpha=1.2, guidance_every=2),
        needs=GUIDED,
    ),
    "faster-cache-guidance": Case(
        sd.FasterCache(attention=False, guidance=True, alpha=1.0),
        sd.FasterCache(attention=False, guidance=True, guidance_every=1),
        other=sd.FasterCache(attention=False, guidance=True, guidance_every=2),
        needs=GUIDED,
    ),
    "toca": Case(
        sd.ToCa(interval=4, ratio=0.12),
        sd.ToCa(interval=1, ratio=0.0),
        other=sd.ToCa(interval=4, ratio=0.12, age=9.0),
    ),
    "duca": Case(
        sd.DuCa(interval=5, ratio=0.12),
        sd.DuCa(interval=1, ratio=0.0),
        other=sd.DuCa(interval=5, ratio=0.12, age=9.0),
    ),
    "two": Case(
        notation.read("block-cache(every=2)+faster-cache(attention=False, guidance=True, alpha=1)"),
        notation.read(
            "block-cache(every=1)+faster-cache(attention=False, guidance=True, guidance_every=1)"
        ),
        other=notation.read(
            "block-cache(every=3)+faster-cache(attention=False, guidance=True, alpha=2)"
        ),
        needs=GUIDED,
    ),
}
CASE = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def refused(case, kind):
    has = {"": True, "skips": kind.skips > 0, "plain": not kind.skips, "guided": kind.guided}
    return not has[case.needs[0]]


def some_kind(case):
    """One that the method works on: guided, and with skips if it can be."""
    plain, skips = Kind(), Kind(skips=toys.STAGES // 2)
    return plain if refused(case, skips) else skips


def off(got, want):
    """The largest difference, in terms of the largest value."""
    return np.max(np.abs(got - want)) / np.max(np.abs(want))


@CASE
@pytest.mark.parametrize("kind", EVERY_KIND, ids=str)
def test_a_method_works_or_says_in_a_line_why_not(case, kind):
    for policy in (case.policy, case.full, case.other, case.exact):
        if policy is None:
            continue
        if not refused(case, kind):
            plan = policy.plan(run_of(kind, STEPS))
            assert plan.reuse.any() == (policy is not case.full)
            continue
        with pytest.raises(ValueError, match=case.needs[1]) as error:
            policy.plan(run_of(kind, STEPS))
        assert "\n" not in str(error.value)


# The scan computes what can be reused inside a conditional, where XLA groups operations otherwise.
ROUNDING = {"scan": 1e-6, "nested": 0.0, "unrolled": 0.0}
SOME = ("skip-cache", "fora")


def with_driver(name, driver):
    dear = name not in SOME if driver == "nested" else True
    return pytest.param(CASES[name], driver, id=f"{name}-{driver}", marks=[pytest.mark.slow] * dear)


DRIVEN = [with_driver(name, driver) for name in CASES for driver in ("nested", "unrolled")]


@CASE
def test_computing_every_step_is_no_cache(case):
    kind = some_kind(case)
    cached, plain = draw(kind, case.full).taps, draw(kind, None).taps
    assert off(cached.model_output, plain.model_output) <= ROUNDING["scan"]
    assert off(cached.sample, plain.sample) <= ROUNDING["scan"]


@pytest.mark.parametrize(("case", "driver"), DRIVEN)
def test_drivers_agree_and_compute_every_step_exactly(case, driver):
    kind = some_kind(case)
    other, scan = draw(kind, case.policy, driver=driver).taps, draw(kind, case.policy).taps
    assert off(other.model_output, scan.model_output) < 1e-4
    assert off(other.sample, scan.sample) < 1e-4
    cached, plain = (draw(kind, policy, driver=driver).taps for policy in (case.full, None))
    assert off(cached.sample, plain.sample) <= ROUNDING[driver]


@CASE
def test_unchanging_inputs_make_every_method_exact(case):
    check_unchanging(case, some_kind(case))


@pytest.mark.slow
@CASE
@pytest.mark.parametrize("kind", EVERY_KIND, ids=str)
def test_unchanging_inputs_on_every_kind_of_network(case, kind):
    if refused(case, kind):
        with pytest.raises(ValueError, match=case.needs[1]):
            case.policy.plan(run_of(kind, STEPS))
    else:
        check_unchanging(case, kind)


def check_unchanging(case, kind):
    plan, taps = draw(kind, case.exact or case.policy, still=True)
    assert plan.reuse.any()
    assert off(taps.model_output, taps.model_output[:1]) < 2e-5


@CASE
def test_one_program_for_all_plans_and_nothing_left_from_the_last(case):
    kind = some_kind(case)
    plan, first = draw(kind, case.policy)
    plain = draw(kind, None).taps
    assert off(first.model_output[plan.reuse], plain.model_output[plan.reuse]) > 1e-4
    known = toys.run._cache_size()
    assert not np.array_equal(draw(kind, case.other).taps.sample, first.sample)
    again = draw(kind, case.policy).taps
    assert all(map(np.array_equal, jax.tree.leaves(first), jax.tree.leaves(again)))
    assert toys.run._cache_size() == known


@pytest.mark.parametrize(
    ("text", "socket"),
    [
        ("fora:3+taylor:4", "sub"),
        ("N3+block-cache(every=2)", "trunk"),
        ("N3+taylor(lite=True)", "trunk"),
        ("faster-cache(attention=False)+faster-cache", "guide"),
        ("pab+N3+faster-cache", "sub"),
    ],
)
def test_two_methods_in_one_socket_are_refused(text, socket):
    kind = Kind(skips=2, names=toys.CLIP)
    with pytest.raises(ValueError, match=f"two methods fill the socket '{socket}', wanted one"):
        notation.read(text).plan(run_of(kind, STEPS))


@pytest.mark.parametrize("text", ["N2+pab:2:3", "N3+fora:2+faster-cache(attention=False)"])
def test_methods_in_different_sockets_combine(text):
    policy = notation.read(text)
    kind = Kind(skips=2, names=toys.CLIP)
    plan, scan = draw(kind, policy)
    parts = [part.plan(run_of(kind, STEPS)) for part in policy.policies]
    assert all(len(part.full()) == 1 for part in parts)
    assert len(plan.full()) == len(parts)
    # Behind steps of the condition alone each starts anew: it reuses no more than by itself.
    assert not (plan.reuse & np.logical_and.reduce([~part.reuse for part in parts])).any()
    assert off(scan.model_output[plan.reuse], draw(kind, None).taps.model_output[plan.reuse]) > 1e-4
