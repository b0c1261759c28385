"""SmoothCache's calibration against the original's: errors of all layers and lags; schedules."""

import json
from functools import partial
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skipdit_jax.calibration import smooth
from skipdit_jax.calibration.drift import drift, site_name, watching_updates
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.layers import embedders
from skipdit_jax.models.stack import bind
from skipdit_jax.sampling import loop
from skipdit_jax.sampling.denoiser import make_denoiser
from skipdit_jax.sampling.guidance import Guidance
from tests.parity.cached import of_set_c
from tests.parity.goldens import channel_last
from tests.parity.models import model_of, params_of
from tests.parity.test_loops import STEPPERS

KINDS = ("attn", "mlp")
LIMIT = 2e-5  # absolute; a float64 consumer of the recording is 2.4e-6 off


def measured(golden, group):
    """The drift of a recorded run without cache."""
    made, model = of_set_c(golden, group, None), model_of(golden)
    half, lags = len(golden["z"]) // 2, golden[f"{group}/calib/err"].shape[1]
    x = jnp.asarray(channel_last(golden["z"]))[:half]
    y = jnp.asarray(golden["y"], jnp.int32)
    diffusion, stepper = Diffusion(spacing=made.respacing), STEPPERS[made.sampler](clip=made.clip)
    noises = jnp.zeros((diffusion.num_steps, *x.shape))
    if made.sampler == "ddpm":
        noises = jnp.asarray(channel_last(golden[f"{group}/calib/noise"]))[:, :half]
    rows = jax.tree.map(jnp.asarray, loop.step_inputs(diffusion, Guidance(scale=made.scale)))

    def run(params, x):
        def step(carry, row):
            seen = {}
            network = watching_updates(bind(model, params), seen)
            denoiser = make_denoiser(network, x, y[:half], y[half:], made.channels)
            carry, _ = loop.advance(
                denoiser,
                stepper,
                diffusion.parameterization,
                lambda index: noises[index],
                (carry, denoiser.state, ()),
                row,
            )
            return carry[0], seen

        return drift(step, x, rows, lags)

    recorded = partial(mock.patch.object, embedders, "timestep_frequencies")
    with recorded(return_value=golden["aux/t_freqs"]):
        return jax.device_get(jax.jit(run)(params_of(golden, model), x))


def groups(golden):
    return [key.removesuffix("/calib/err") for key in golden.arrays if key.endswith("/calib/err")]


def compare(golden):
    for group in groups(golden):
        found = measured(golden, group)
        want = golden[f"{group}/calib/err_layer"]
        for number, kind in enumerate(KINDS):
            for stage in range(want.shape[1]):
                errors = found.errors(site_name(stage, kind)).T
                known = want[number, stage] >= 0
                assert np.array_equal(known, ~np.isnan(errors)), f"{group}, {kind} {stage}"
                away = np.abs(errors - want[number, stage])[known]
                assert away.max() < LIMIT, f"{group}, {kind} {stage}: {away.max():.2g}"


@pytest.mark.golden("smoothcache")
def test_errors_of_every_layer(golden):
    compare(golden)


@pytest.mark.golden("smoothcache")
def test_damaged_errors_are_noticed(golden):
    group = groups(golden)[0]
    with pytest.raises(AssertionError, match=group):
        compare(golden.damaged(f"{group}/calib/err_layer", (0, 1, 1, slice(5))))


@pytest.mark.golden("smoothcache")
def test_schedules_of_every_threshold(golden):
    found = 0
    for group in groups(golden):
        recorded = golden[f"{group}/calib/err"]
        errors = {
            kind: np.where(table < 0, np.nan, table).T
            for kind, table in zip(KINDS, recorded, strict=True)
        }
        for key in golden.arrays:
            if key.startswith(f"{group}/") and key.endswith("/alpha"):
                want = json.loads(str(golden[f"{key.removesuffix('alpha')}schedule"]))
                assert smooth.masks(errors, float(golden[key])) == want, key
                found += 1
    assert found >= len(groups(golden))
