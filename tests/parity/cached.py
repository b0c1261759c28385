"""Runs the recorded loops of sets c and d under our policies, and compares every step."""

import json
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from skipdit_jax.caching import planning
from skipdit_jax.caching.engine import EMPTY
from skipdit_jax.caching.plan import CachePolicy, Run
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.layers import embedders
from skipdit_jax.sampling import loop
from skipdit_jax.sampling.guidance import Guidance
from tests.parity.goldens import channel_last
from tests.parity.models import model_of, params_of
from tests.parity.test_loops import STEPPERS, compare, run

# (model output, sample): golden/c/README.md and golden/d/README.md.
LIMITS = {"c": (2e-5, 1e-4), "d": (5e-5, 5e-5)}


class Loop(NamedTuple):
    """How a recorded loop was made.

    Attributes:
      group: prefix of its arrays.
      policy: ours; None computes every step.
      respacing: of the process.
      sampler: "ddim" or "ddpm".
      scale: of guidance.
      channels: guided ones.
      clip: of x0.
      limits: of model output and sample.
    """

    group: str
    policy: CachePolicy | None
    respacing: str
    sampler: str
    scale: float
    channels: int
    clip: bool
    limits: tuple[float, float]


def of_set_c(golden, group, policy) -> Loop:
    """Set c records how in `<group>/setting`."""
    how = json.loads(str(golden[f"{group.split('/')[0]}/setting"]))
    scale, clip = how["cfg_scale"], how["clip"]
    return Loop(group, policy, how["respacing"], how["sampler"], scale, 3, clip, LIMITS["c"])


def of_set_d(golden, group, policy) -> Loop:
    """Set d records one way for all groups in `config`."""
    how = golden.config
    spacing, channels = str(how["steps"]), how["guided_channels"]
    return Loop(group, policy, spacing, "ddim", how["scale"], channels, True, LIMITS["d"])


def replay(golden, made: Loop, driver: str = "scan", fresh: bool = False) -> tuple[Any, Any]:
    """Our plan and what every step gave, from the recorded noise; `fresh` traces it anew."""
    model = model_of(golden)
    half = len(golden["z"]) // 2
    z = jnp.asarray(channel_last(golden["z"]))[:half]
    y = jnp.asarray(golden["y"], jnp.int32)
    diffusion = Diffusion(spacing=made.respacing)
    noises = jnp.zeros((diffusion.num_steps, *z.shape))
    if made.sampler == "ddpm":
        group = made.group.split("/")[0]
        place = next(k for k in (f"{made.group}/noise", f"{group}/noise") if k in golden)
        noises = jnp.asarray(channel_last(golden[place]))[:, :half]
    inputs = loop.step_inputs(diffusion, Guidance(scale=made.scale))
    plan = made.policy and made.policy.plan(run_of(model, diffusion))
    steps, sockets = (
        (loop.Steps(plan.kinds, plan.rows), plan.sockets)
        if plan
        else (
            loop.Steps(),
            EMPTY,
        )
    )
    stepper = STEPPERS[made.sampler](clip=made.clip)
    data = (golden["aux/t_freqs"], params_of(golden, model), z, y[:half], y[half:], noises, inputs)
    how = (model, stepper, diffusion.parameterization, made.channels, sockets, driver)
    if plan is None or (driver == "scan" and not fresh):
        return plan, jax.device_get(run_recorded(*data, steps, *how))
    taps = jax.jit(lambda *data: run_recorded.__wrapped__(*data, steps, *how))(*data)
    return plan, jax.device_get(taps)


@partial(jax.jit, static_argnums=range(8, 14))
def run_recorded(frequencies, *arguments):
    """`run` with the recorded frequencies: these sets come from another processor's exp."""
    with mock.patch.object(embedders, "timestep_frequencies", return_value=frequencies):
        return run.__wrapped__(*arguments)


def run_of(model, diffusion) -> Run:
    """What a policy is told of such a loop."""
    return Run(
        timesteps=diffusion.timesteps[::-1],
        num_stages=model.num_stages,
        num_skips=model.num_skips,
        sublayers=tuple(name for name, _ in model.costs.sublayers),
        guided=True,
        noise=diffusion.noise_at(diffusion.timesteps[::-1].astype(np.float64)),
        grid=model.token_grid,
    )


def check(golden, made: Loop, driver: str = "scan") -> Any:
    """Compares every step of model output and sample; returns the plan."""
    plan, taps = replay(golden, made, driver)
    if plan is not None:
        planning.check(plan, run_of(model_of(golden), Diffusion(spacing=made.respacing)))
    compare_steps(golden, made, taps)
    return plan


def compare_steps(golden, made: Loop, taps) -> None:
    """Compares every step of model output and sample."""
    for name, got, limit in zip(
        ("model_out", "sample"), (taps.model_output, taps.sample), made.limits, strict=True
    ):
        compare(got, golden[f"{made.group}/{name}"], f"{made.group}/{name}", limit)


def assert_computed(golden, plan, key, names) -> None:
    """Compares which sub-layers ran with the recorded bool [S,L,names]."""
    want = golden[key]
    got = np.ones(want.shape, bool)
    for column, (stage, name) in enumerate(plan.sockets.sub.sites):
        if name in names:
            got[:, stage, names.index(name)] = plan.computed()[:, column]
    assert np.array_equal(got, want), key
