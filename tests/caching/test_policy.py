"""Plans against the published counts, and the notation."""

import numpy as np
import pytest

from skipdit_jax.caching.engine import check_plan
from skipdit_jax.caching.policy import BlockCache, SkipCache, interval_reuse
from skipdit_jax.caching.presets import DIT_SKIP_CACHE, LATTE_SKIP_CACHE, dit_skip_cache
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.typing import Plan, Trunk

# (steps, start, stop, {N: (full, cached)}): DiT, Latte DDPM and DDIM (docs/notes.md, Skip-Cache as
# published).
PUBLISHED = [
    ("250", 1000, 20, {2: (128, 122), 3: (87, 163), 4: (67, 183), 5: (54, 196), 6: (46, 204)}),
    ("250", 900, 49, {2: (143, 107), 3: (108, 142), 4: (90, 160), 5: (80, 170), 6: (72, 178)}),
    ("50", 900, 49, {2: (28, 22), 3: (21, 29), 4: (17, 33), 5: (16, 34), 6: (14, 36)}),
]


@pytest.mark.parametrize(("spacing", "start", "stop", "counts"), PUBLISHED)
def test_published_counts(spacing, start, stop, counts):
    timesteps = Diffusion(spacing=spacing).timesteps[::-1]
    for every, (full, cached) in counts.items():
        plan = SkipCache(every=every, start=start, stop=stop).plan(timesteps)
        assert (int(np.sum(~plan.reuse)), int(np.sum(plan.reuse))) == (full, cached), every


def test_closing_is_one_step_late():
    """The first step at or below stop may still be cached; all after it are full."""
    reuse = interval_reuse(np.array([100, 60, 20, 10, 0]), every=10, start=1000, stop=20)
    assert reuse.tolist() == [False, True, True, False, False]


def test_forced_steps_count_too():
    """Steps at or above start are full and still advance the counter."""
    reuse = interval_reuse(np.array([900, 800, 700, 600, 500, 400]), every=2, start=700, stop=-1)
    assert reuse.tolist() == [False, False, False, True, False, True]


def test_one_computes_every_step():
    assert not SkipCache(every=1).plan(np.arange(100)[::-1]).reuse.any()


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("N3-1000-20", SkipCache(every=3, start=1000, stop=20)),
        (" N2-700-50 ", SkipCache(every=2, start=700, stop=50)),
        ("N4", SkipCache(every=4)),
        ("4", SkipCache(every=4)),
    ],
)
def test_notation(text, policy):
    assert SkipCache.parse(text) == policy
    assert SkipCache.parse(str(policy)) == policy


def test_notation_keeps_what_it_does_not_say():
    parsed = SkipCache.parse("N2", DIT_SKIP_CACHE)
    assert parsed == SkipCache(every=2, branch=4, start=1000, stop=20)


@pytest.mark.parametrize("text", ["N0", "N3-20-1000", "N3-20", "", "three", "N-3", "N3-1000-20-4"])
def test_bad_notation_is_one_line(text):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        SkipCache.parse(text)


@pytest.mark.parametrize(
    ("policy", "stages", "skips", "word"),
    [
        (SkipCache(every=2, branch=6), 12, 6, "branch 6"),
        (SkipCache(every=2, branch=7), 12, 6, "branch 7"),
        (SkipCache(every=2, branch=1), 12, 0, "long skips"),
        (BlockCache(every=2, front=6, back=6), 12, 0, "branch 6"),
        (BlockCache(every=2, front=1, back=2), 12, 6, "need skips"),
    ],
)
def test_plans_that_a_model_cannot_follow(policy, stages, skips, word):
    plan = policy.plan(np.array([900, 500, 100]))
    with pytest.raises(ValueError, match=word):
        check_plan(plan, stages, skips)


def test_first_step_must_be_full():
    with pytest.raises(ValueError, match="step 0"):
        check_plan(Plan(np.array([True, False]), Trunk(1, 1)), 12, 6)


def test_published_branch():
    assert [dit_skip_cache(depth).branch for depth in (28, 24, 12, 4)] == [4, 1, 1, 1]


def test_what_is_not_said_is_as_published():
    latte = LATTE_SKIP_CACHE
    assert SkipCache(every=2).like(latte) == SkipCache(every=2, branch=1, start=900, stop=49)
    said = SkipCache(every=2, branch=2, start=1000, stop=20)
    assert said.like(latte) == said
    # Half of an interval is completed as if no family were known: it was measured with neither.
    assert SkipCache(every=2, start=700).like(latte).stop == 20
