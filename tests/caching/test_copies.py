"""What a cache costs in the compiled loop: no copies of what is kept, on the toy of `toys.py`."""

import numpy as np
import pytest

from skipdit_jax.caching.engine import EMPTY
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.sampling import loop
from skipdit_jax.sampling.guidance import Guidance
from tests.caching import hlo, toys
from tests.caching.test_deciding import CASES as DECIDING
from tests.caching.test_methods import CASES, STEPS, some_kind
from tests.caching.toys import Kind

HIDDEN = 2 * toys.BATCH * toys.SIDE**2 * toys.WIDTH  # elements of what one site or span keeps


def sampling_loop(kind, policy):
    plan = policy and policy.plan(toys.run_of(kind, STEPS))
    inputs = loop.step_inputs(Diffusion(spacing=str(STEPS)), Guidance(scale=toys.SCALE))
    x = np.zeros((toys.BATCH, toys.SIDE, toys.SIDE, toys.CHANNELS), np.float32)
    steps, sockets = (loop.Steps(*plan[1:]), plan.sockets) if plan else (loop.Steps(), EMPTY)
    lowered = toys.run.lower(x, np.float32(1), inputs, steps, kind, sockets)
    return hlo.parse(lowered.compile().as_text()).sampling_loop()


NEWER = ("smooth", "block-cache-foca", "faster-cache", "faster-cache-diffusers", "toca", "duca")


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=name, marks=[hlo.MEASURED] if name in NEWER else [])
        for name, case in CASES.items()
    ],
)
def test_what_is_kept_is_never_copied(case):
    """Neither a value nor a ring of some: the toy copies nothing of that size by itself.

    Where a kind of sub-layers stands inside the trunk, what leaves the stages is copied into its
    ring, once on each side.
    """
    cached, sockets = sampling_loop(some_kind(case), case.policy), sockets_of(case)
    assert max(line.elements for line in cached) >= HIDDEN
    both = sockets.trunk is not None and sockets.sub is not None
    assert hlo.sized(cached, "copy", HIDDEN) <= (len(sockets.sub.kinds) if both else 0)
    assert hlo.largest(cached, "copy") < HIDDEN + both


def sockets_of(case):
    return case.policy.plan(toys.run_of(some_kind(case), STEPS)).sockets


@hlo.MEASURED
@pytest.mark.parametrize("case", DECIDING.values(), ids=DECIDING.keys())
def test_what_a_decision_compares_is_never_copied_either(case):
    """Nor is what is kept of the trunk, whose forecasts only the loop knows."""
    assert hlo.largest(sampling_loop(case.kind, case.policy), "copy") < HIDDEN


@hlo.MEASURED
@pytest.mark.parametrize("name", ["smooth", "pab", "faster-cache"])
def test_kinds_of_attention_at_different_rates_copy_nothing_either(name):
    """Steps are then of four kinds, none of which computes what another does."""
    kind = Kind(skips=2, names=toys.CLIP)
    assert hlo.largest(sampling_loop(kind, CASES[name].policy), "copy") < HIDDEN
