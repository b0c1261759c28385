"""Plans against the published counts, and which of them a model can follow."""

import numpy as np
import pytest

from skipdit_jax.caching import planning
from skipdit_jax.caching.intervals import interval_reuse
from skipdit_jax.caching.methods.block_cache import BlockCache
from skipdit_jax.caching.methods.faster_cache import FasterCache
from skipdit_jax.caching.methods.skip_cache import SkipCache
from skipdit_jax.caching.plan import Run, Span
from skipdit_jax.caching.presets import LATTE_SKIP_CACHE, dit_skip_cache
from skipdit_jax.caching.summary import flops_of_steps
from skipdit_jax.contracts import Costs
from skipdit_jax.diffusion.schedules import Diffusion

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
        plan = SkipCache(every=every, start=start, stop=stop).plan(Run(timesteps, 28, 14))
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
    assert not SkipCache(every=1).plan(Run(np.arange(100)[::-1], 12, 6)).reuse.any()


def test_a_list_of_full_steps_is_followed_and_completed_by_the_branch_alone():
    listed = SkipCache(full=(0, 1, 4)).resolved(LATTE_SKIP_CACHE)
    assert listed == SkipCache(full=(0, 1, 4), branch=LATTE_SKIP_CACHE.branch)
    plan = listed.plan(Run(np.arange(600, 0, -100), 12, 6))
    assert np.flatnonzero(~plan.reuse).tolist() == [0, 1, 4]


def test_a_list_beside_an_interval_or_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="full begins with 1, wanted step 0 in it"):
        SkipCache(full=(1, 3))
    with pytest.raises(ValueError, match="found an interval beside a list"):
        SkipCache(full=(0, 3), every=2)
    with pytest.raises(ValueError, match="found step 9 in full, wanted steps below 6"):
        SkipCache(full=(0, 9)).plan(Run(np.arange(600, 0, -100), 12, 6))


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
    with pytest.raises(ValueError, match=word):
        policy.plan(Run(np.array([900, 500, 100]), stages, skips))


def test_first_step_must_be_full():
    with pytest.raises(ValueError, match="step 0"):
        planning.reuse_spans(Run(np.array([9, 5]), 12, 0), np.array([0, 1]), [Span(1, 11)])


def test_published_branch():
    assert [dit_skip_cache(depth).branch for depth in (28, 24, 12, 4)] == [4, 1, 1, 1]


def test_what_is_not_said_is_as_published():
    latte = LATTE_SKIP_CACHE
    assert SkipCache(every=2).resolved(latte) == SkipCache(every=2, branch=1, start=900, stop=49)
    said = SkipCache(every=2, branch=2, start=1000, stop=20)
    assert said.resolved(latte) == said
    # Half of an interval is completed as if no family were known: it was measured with neither.
    assert SkipCache(every=2, start=700).resolved(latte).stop == 20


@pytest.mark.parametrize("published", [None, BlockCache(every=2)])
def test_what_another_method_published_changes_nothing(published):
    open_ended = SkipCache(every=3)
    assert open_ended.resolved(published) == open_ended
    assert BlockCache(every=3).resolved(LATTE_SKIP_CACHE) == BlockCache(every=3)


def test_flops_of_a_cached_call_count_every_fusion_that_runs():
    costs = Costs(stage=100, fuse=7, num_stages=10, num_skips=5)
    assert costs.total() == 10 * 100 + 5 * 7
    run = Run(np.array([900, 500]), 10, 5)
    reuse = np.array([False, True])
    plan = planning.reuse_middle(run, reuse, 2, 2, residual=False)
    assert flops_of_steps(plan, costs).tolist() == [costs.total(), 4 * 100 + 2 * 7]
    # Six stages in front reach over the middle: one of them fuses.
    plan = planning.reuse_middle(run, reuse, 6, 2, residual=True)
    assert flops_of_steps(plan, costs)[1] == 8 * 100 + 3 * 7
    assert sum(costs.stages(u, u + 1) for u in range(10)) == costs.total()


@pytest.mark.parametrize("every", [2, 3, 4, 5])
@pytest.mark.parametrize("guided_every", [1, 2, 3, 5, 7])
def test_faster_cache_never_forecasts_two_halves_from_one(every, guided_every):
    """Steps of both halves reuse only where both values that are kept have them."""
    policy = FasterCache(attention_every=every, guidance_every=guided_every)
    timesteps = Diffusion(spacing="50").timesteps[::-1]
    plan = policy.plan(Run(timesteps, 4, 0, ("attn", "mlp"), guided=True))
    both, computed = plan.kinds.guide == 1, plan.computed().all(axis=1)
    for step in np.flatnonzero(both & ~computed):
        kept = np.flatnonzero(computed[:step])[-2:]
        assert both[kept].all(), step
    assert not computed.all()
