"""What a cache costs in the compiled loop: no copies of what is kept, on the toy of `toys.py`."""

import numpy as np
import pytest

from skipdit_jax.caching.engine import EMPTY
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.sampling import loop
from skipdit_jax.sampling.guidance import Guidance
from tests.caching import hlo, toys
from tests.caching.test_methods import CASES, STEPS, some_kind

HIDDEN = 2 * toys.BATCH * toys.SIDE**2 * toys.WIDTH  # elements of what one site or span keeps
ORDER = 2  # of the case "taylor"


def sampling_loop(kind, policy):
    plan = policy and policy.plan(toys.run_of(kind, STEPS))
    inputs = loop.step_inputs(Diffusion(spacing=str(STEPS)), Guidance(scale=toys.SCALE))
    x = np.zeros((toys.BATCH, toys.SIDE, toys.SIDE, toys.CHANNELS), np.float32)
    steps, sockets = (loop.Steps(*plan[1:]), plan.sockets) if plan else (loop.Steps(), EMPTY)
    lowered = toys.run.lower(x, np.float32(1), inputs, steps, kind, sockets)
    return hlo.parse(lowered.compile().as_text()).sampling_loop()


@pytest.mark.parametrize(
    "name", ["skip-cache", "block-cache", "mag", "taylor-lite", "faster-diffusion", "learned"]
)
def test_what_is_kept_is_never_copied(name):
    """Attention copies operands of the same size: as many as without a cache."""
    kind = some_kind(CASES[name])
    plain, cached = (sampling_loop(kind, policy) for policy in (None, CASES[name].policy))
    assert hlo.sized(cached, "copy", HIDDEN) == hlo.sized(plain, "copy", HIDDEN)
    assert hlo.largest(cached, "copy") == hlo.largest(plain, "copy")


def test_a_ring_of_taylorseer_is_never_copied():
    found = sampling_loop(some_kind(CASES["taylor"]), CASES["taylor"].policy)
    assert hlo.sized(found, "copy", (ORDER + 1) * HIDDEN) == 0
    assert any(line.elements == (ORDER + 1) * HIDDEN for line in found)
