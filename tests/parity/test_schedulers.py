"""Samplers against the schedulers of diffusers: times, levels, and every step of every setting.

The recordings feed a fixed sequence of outputs. Each step is compared twice: from the latents that
were recorded before it, and on the latents that our own steps led to. A sampler in the scaling of
Karras et al. (x / α) is compared in ours.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.sampling import loop
from skipdit_jax.sampling.methods import read_method, write_method
from skipdit_jax.sampling.steppers import Ddim, Ddpm, FlowEuler
from skipdit_jax.weights.schedulers import sampling_of
from tests.parity.goldens import assert_close, channel_last
from tests.sampling.test_orders import error

# docs/notes.md, Goldens: the recordings take their levels from float32 tables.
STEP, RUN, KARRAS_RUN = 1e-4, 3e-4, 2e-3
LEVELS = 2e-4  # relative
ORDER, FLOAT32 = 1e-3, 5e-6
TABLE = 1e-5
TIMES, KARRAS_TIMES = 1e-4, 5e-3

golden_file = pytest.mark.golden("schedulers")


def stated(case):
    """What our reader of scheduler_config.json makes of a recorded scheduler."""
    settings, mu = dict(case["kwargs"]), case["set_timesteps"].get("mu")
    if mu is not None:  # of one size of picture
        settings |= {"use_dynamic_shifting": False, "shift": math.exp(mu)}
    return sampling_of({"_class_name": case["cls"], **settings}, str(case["steps"]))


def process_of(case):
    """The diffusion of a recorded scheduler, on its steps."""
    found = stated(case)
    fields, kind = dict(found["diffusion"]), case["kwargs"].get("variance_type", "fixed_small")
    if fields.get("beta_range") is not None:
        fields["beta_range"] = tuple(fields["beta_range"])
    spacing = found["sampling"].get("steps", str(case["steps"]))
    return Diffusion(**fields, variance=kind, spacing=spacing)


def stepper_of(case):
    """Our sampler of a recorded scheduler, as its step was called."""
    stepper, asked = read_method(stated(case)["sampling"]["method"]), case["step_kwargs"]
    if "eta" in asked:
        stepper = dataclasses.replace(stepper, eta=asked["eta"])
    if asked.get("use_clipped_model_output", False):
        stepper = dataclasses.replace(stepper, told=False)
    if case["custom_sigmas"]:
        stepper = dataclasses.replace(stepper, lowest="even")
    elif "mu" in case["set_timesteps"]:
        stepper = dataclasses.replace(stepper, lowest="first")
    return stepper


class Case:
    """A recorded run: our process and sampler of it, and its arrays in our scaling, channels last.

    Attributes:
      x: what each step begins with, [S+1,B,H,W,C].
      output: what the network said, [S,B,H,W,C_out].
      noise: of each step.
    """

    def __init__(self, golden, name):
        arrays = golden.under(f"{name}/")
        self.case = golden.config["cases"][name]
        self.name, self.diffusion = name, process_of(self.case)
        self.stepper = stepper_of(self.case)
        self.schedule = loop.make_schedule(self.diffusion, self.stepper)
        self.t, self.output = arrays["t"], channel_last(arrays["model_out"])
        self.levels = arrays.get("sigmas", arrays.get("alpha_bar_t"))
        x = np.concatenate([arrays["x_init"][None], arrays["sample"]])
        if "scaled_input" in arrays:
            ratio = self.levels.reshape(-1, *[1] * (x.ndim - 1))
            x = x / np.sqrt(ratio**2 + 1)
            np.testing.assert_allclose(x[:-1], arrays["scaled_input"], rtol=1e-4, atol=1e-5)
        self.x = channel_last(x)
        noise = arrays.get("noise", np.zeros_like(arrays["sample"]))
        self.noise = channel_last(noise)

    @property
    def karras(self):
        return self.case["kwargs"].get("use_karras_sigmas", False)


@functools.partial(jax.jit, static_argnums=(0, 1))
def steps_of(stepper, kind, rows, output, x, noise):
    """(every step from the recorded latents, every step on our own)."""

    def run(x0, rows, output, noise, recorded):
        def step(carry, row):
            own, state = carry
            c, output, noise, recorded = row
            after, state = stepper.step(
                kind, c, output, own if recorded is None else recorded, noise, state
            )
            return (after, state), after

        carry = x0, stepper.initialise(x0)
        return jax.lax.scan(step, carry, (rows, output, noise, recorded))[1]

    return run(x[0], rows, output, noise, x[:-1]), run(x[0], rows, output, noise, None)


def check_times(case):
    limit = KARRAS_TIMES if case.karras else TIMES
    np.testing.assert_allclose(case.schedule.timesteps, case.t, atol=limit, err_msg=case.name)


def check_levels(case):
    """σ / α of solvers with levels of their own, q of flows, ᾱ of the others."""
    if isinstance(case.stepper, Ddim | Ddpm):
        found = case.diffusion.training_alpha_bar[case.diffusion.timesteps[::-1]]
    elif isinstance(case.stepper, FlowEuler):
        found = case.stepper.levels(case.diffusion).sigma
    else:
        visited = case.stepper.levels(case.diffusion)
        found = visited.sigma / visited.alpha
    np.testing.assert_allclose(found, case.levels, rtol=LEVELS, atol=1e-7, err_msg=case.name)


def check_steps(case):
    kind = case.diffusion.parameterization
    rows = jax.tree.map(jnp.asarray, case.schedule.rows)
    each, all_of_them = steps_of(case.stepper, kind, rows, case.output, case.x, case.noise)
    for i, want in enumerate(case.x[1:]):
        assert_close(each[i], want, STEP, f"{case.name}: step {i}")
        limit = KARRAS_RUN if case.karras else RUN
        assert_close(all_of_them[i], want, limit, f"{case.name}: run at step {i}")


def check_start(case):
    """The noise that a run begins with, in the scaling of x_t."""
    recorded = case.case["init_noise_sigma"]
    if "Euler" in case.case["cls"] and "Flow" not in case.case["cls"]:
        recorded = recorded / math.sqrt(case.levels[0] ** 2 + 1)
    assert case.schedule.start == pytest.approx(recorded, rel=1e-5), case.name


CHECKS = (check_times, check_levels, check_steps, check_start)


def cases(golden):
    names = sorted(golden.config["cases"])
    assert {name.split("/")[0] for name in names} == {"ddim", "ddpm", "dpm", "sde", "euler", "flow"}
    return names


@golden_file
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_scheduler(golden, check):
    for name in cases(golden):
        check(Case(golden, name))
    assert golden.config["cases"]


@golden_file
def test_tables(golden):
    """ᾱ of the three ranges, float32 in the recordings."""
    found = {
        "linear": Diffusion(),
        "scaled_sd": Diffusion(schedule="scaled_linear"),
        "scaled_hunyuan": Diffusion(schedule="scaled_linear", beta_range=(0.00085, 0.02)),
    }
    for name, diffusion in found.items():
        want = golden[f"table/alphas_cumprod/{name}"]
        assert_close(diffusion.training_alpha_bar, want, TABLE, name)
        worse = golden.damaged(f"table/alphas_cumprod/{name}")[f"table/alphas_cumprod/{name}"]
        with pytest.raises(AssertionError, match="deviation"):
            assert_close(diffusion.training_alpha_bar, worse, TABLE, name)


@golden_file
@pytest.mark.parametrize(
    ("key", "check", "by"),
    [("t", check_times, 1e-2), ("sample", check_steps, 1e-1), ("noise", check_steps, 1e-1)],
)
def test_damage_is_seen(golden, key, check, by):
    for name in cases(golden):
        if f"{name}/{key}" in golden:
            with pytest.raises(AssertionError):
                check(Case(golden.damaged(f"{name}/{key}", by=by), name))


@golden_file
def test_another_output_is_seen(golden):
    """All of it: single numbers have no weight where data is clipped or the levels are equal."""
    arrays = {k: v * 1.01 if k.endswith("model_out") else v for k, v in golden.arrays.items()}
    other = dataclasses.replace(golden, arrays=arrays)
    for name in cases(golden):
        with pytest.raises(AssertionError):
            check_steps(Case(other, name))


@golden_file
def test_settings_read_back(golden):
    """Every recorded scheduler has a text, and the text is that sampler again."""
    for name in cases(golden):
        stepper = stepper_of(golden.config["cases"][name])
        assert read_method(write_method(stepper)) == stepper


def mistaken(case, **changes):
    """The same recording with another setting of ours."""
    case.stepper = type(case.stepper)(**{**vars(case.stepper), **changes})
    case.schedule = loop.make_schedule(case.diffusion, case.stepper)
    return case


@golden_file
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("ddim/linspace", {"stride": False}),
        ("ddim/scaled_sd", {"end": "data"}),
        ("ddim/clip", {"told": False}),
        ("ddim/eta05", {"eta": 0.4}),
        ("dpm/order3_long", {"order": 2}),
        ("dpm/heun", {"rule": "midpoint"}),
        ("dpm/sigma_min_no_lower_final", {"lower_order_final": True}),
        ("dpm/sigma_min_euler_at_final_long", {"euler_at_final": False}),
        ("dpm/karras_v", {"karras": False}),
        ("flow/shift3", {"lowest": "first"}),
        ("flow/shift_terminal", {"terminal": None}),
    ],
)
def test_another_setting_is_another_sampler(golden, name, changes):
    check_steps(Case(golden, name))
    with pytest.raises(AssertionError):
        check_steps(mistaken(Case(golden, name), **changes))


ORDERS = {
    "ddim": ("ddim", {}, "leading"),
    "dpmpp_1": ("dpm++(order=1)", {}, "linspace"),
    "dpmpp_2m": ("dpm++", {}, "linspace"),
    "dpmpp_2m_scaled": ("dpm++", {"schedule": "scaled_linear"}, "linspace"),
    "dpmpp_3m": ("dpm++(order=3)", {}, "linspace"),
    "euler": ("euler", {"schedule": "scaled_linear"}, "linspace"),
    "flow": ("flow-euler", {"schedule": "flow", "prediction": "flow"}, ""),
}


@golden_file
def test_errors_on_a_known_distribution(golden):
    """The recorded errors, down to where float32 ends."""
    given = (golden["order/mu"], golden["order/sd"], golden["order/z"].ravel())
    assert golden.config["order"].keys() == ORDERS.keys()
    for name, recorded in golden.config["order"].items():
        method, fields, rule = ORDERS[name]
        process = Diffusion(variance="fixed_small", **fields)
        for n, want in zip(recorded["n"], recorded["err"], strict=True):
            found = error(method, process, f"{rule}{n}", recorded["stop_t"], *given)
            assert found == pytest.approx(want, rel=ORDER, abs=FLOAT32), f"{name} of {n} steps"
