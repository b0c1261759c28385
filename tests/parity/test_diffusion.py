"""Schedules, Gaussian equations, steps, losses and bounds against the recorded originals.

A section is a function golden -> {key: (ours, limit)}; a limit may differ from sample to sample.
Together the sections cover every array of the file that is not an input. The file names its
processes ("linear/50", "video/full"), except for `options/*`, all recorded at "linear/50", and
`bpd/*`, whose spacing is one of those recorded under "linear/".
"""

import json
import re
from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skipdit_jax.diffusion.gaussian import (
    predict,
    q_mean_variance,
    q_posterior,
    q_sample,
    take,
)
from skipdit_jax.diffusion.likelihood import variational_bound
from skipdit_jax.diffusion.losses import training_losses
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.diffusion.spacing import kept_timesteps
from skipdit_jax.sampling.steppers import Ddim, DdimReverse, Ddpm
from tests.parity import goldens

# docs/notes.md, Goldens. Tables differ at most by the last bit of a libm's log and sqrt.
EXACT, TABLE, FLOAT32, XSTART = 0.0, 1e-14, 2e-6, 1.1e-5
DECODER = 8e-5  # of samples at t = 0: the original's likelihood loses digits there
TABLE_NAMES = {
    "betas": "beta",
    "alphas_cumprod": "alpha_bar",
    "alphas_cumprod_prev": "alpha_bar_prev",
    "alphas_cumprod_next": "alpha_bar_next",
    "sqrt_alphas_cumprod": "sqrt_alpha_bar",
    "sqrt_one_minus_alphas_cumprod": "sqrt_one_minus_alpha_bar",
    "log_one_minus_alphas_cumprod": "log_one_minus_alpha_bar",
    "sqrt_recip_alphas_cumprod": "sqrt_recip_alpha_bar",
    "sqrt_recipm1_alphas_cumprod": "sqrt_recipm1_alpha_bar",
    "posterior_variance": "posterior_variance",
    "posterior_log_variance_clipped": "posterior_log_variance",
    "posterior_mean_coef1": "posterior_coef_x0",
    "posterior_mean_coef2": "posterior_coef_xt",
}
INPUTS = re.compile(r".*/(x_start|noise|x|model_out|t|step_noise)")
OPTIONS = {
    "kl": ({}, "kl"),
    "rescaled": ({}, "rescaled_mse"),
    "xstart": ({"prediction": "xstart"}, "mse"),
    "fixed_small": ({"variance": "fixed_small"}, "mse"),
    "fixed_large": ({"variance": "fixed_large"}, "mse"),
}


def processes(golden):
    """Pairs (key prefix, Diffusion) of the groups that name their process."""
    prefixes = {key.rpartition("/model_t")[0] for key in golden.arrays if key.endswith("/model_t")}
    for prefix in sorted(prefixes):
        schedule, spacing = prefix.split("/")
        yield (
            prefix + "/",
            Diffusion(
                schedule="linear" if schedule == "video" else schedule,
                spacing="" if spacing == "full" else spacing,
            ),
        )


def linear_processes(golden, steps):
    """The recorded linear processes with this many steps."""
    found = [d for p, d in processes(golden) if p.startswith("linear/") and d.num_steps == steps]
    assert found, f"no recorded linear process of {steps} steps"
    return found


def batch(golden, prefix, diffusion):
    """Inputs of a group, channel-last, and the coefficients of its steps."""
    names = {k: v for k, v in golden.under(prefix).items() if INPUTS.fullmatch("/" + k)}
    arrays = {k: jnp.asarray(goldens.channel_last(v)) for k, v in names.items() if k != "t"}
    t = jnp.asarray(names["t"], dtype=jnp.int32)
    c = take(diffusion.coefficients(), t, arrays["x"].ndim)
    return c, t, arrays


def tables(golden):
    checks = {}
    for prefix, diffusion in processes(golden):
        t = golden[prefix + "t"]
        checks[prefix + "model_t"] = diffusion.timesteps[t], EXACT
        if prefix + "betas" in golden:
            checks[prefix + "timestep_map"] = diffusion.timesteps, EXACT
            for theirs, ours in TABLE_NAMES.items():
                checks[prefix + theirs] = getattr(diffusion.tables, ours), TABLE
    return checks


ONE_STEP = "space/1000:1"  # at 0, which the library does not follow: see `diffusion.spacing`


def spacings(golden):
    checks = {}
    for key in golden.arrays:
        if key.startswith("space/") and key != ONE_STEP:
            num_timesteps, spacing = key.removeprefix("space/").split(":")
            checks[key] = kept_timesteps(int(num_timesteps), spacing), EXACT
    return checks


@jax.jit
def noised(c, x0, noise):
    xt = q_sample(c, x0, noise)
    named = {"q_sample": xt}
    named |= {f"q_{k}": v for k, v in q_mean_variance(c, x0)._asdict().items()}
    return named | {f"q_post_{k}": v for k, v in q_posterior(c, x0, xt)._asdict().items()}


def forward(golden):
    checks = {}
    for prefix, diffusion in processes(golden):
        c, _, a = batch(golden, prefix, diffusion)
        named = noised(c, a["x_start"], a["noise"])
        checks |= {prefix + name: (array, FLOAT32) for name, array in named.items()}
    return checks


@partial(jax.jit, static_argnums=(0, 4))
def predicted(kind, c, model_out, x, clip):
    return {
        f"pmv_clip{clip:d}/{name}": array
        for name, array in predict(kind, c, model_out, x, clip)._asdict().items()
        if name != "eps"
    }


def predictions_of(golden, prefix, diffusion, clips=(False, True)):
    checks = {}
    c, _, a = batch(golden, prefix, diffusion)
    for clip in clips:
        named = predicted(diffusion.parameterization, c, a["model_out"], a["x"], clip)
        for name, array in named.items():
            checks[prefix + name] = array, XSTART if "xstart" in name else FLOAT32
    return checks


def predictions(golden):
    checks = {}
    for prefix, diffusion in processes(golden):
        checks |= predictions_of(golden, prefix, diffusion)
    return checks


@partial(jax.jit, static_argnums=(0, 5))
def stepped(kind, c, model_out, x, noise, clip):
    steppers = {f"ddim_eta{eta:g}": Ddim(eta=eta, clip=clip) for eta in (0.0, 0.5, 1.0)}
    steppers |= {"p_sample": Ddpm(clip=clip), "ddim_reverse": DdimReverse(clip=clip)}
    return {
        f"{name}_clip{clip:d}": stepper.step(kind, c, model_out, x, noise)[0]
        for name, stepper in steppers.items()
    }


def steps(golden):
    checks = {}
    for prefix, diffusion in processes(golden):
        c, _, a = batch(golden, prefix, diffusion)
        kind, noise = diffusion.parameterization, a["step_noise"]
        for clip in (False, True):
            for name, array in stepped(kind, c, a["model_out"], a["x"], noise, clip).items():
                checks[prefix + name] = array, XSTART if "ddim" in name else FLOAT32
    return checks


def bound_limits(t):
    """Limits of terms of the variational bound at steps t."""
    return np.where(np.asarray(t) == 0, DECODER, FLOAT32)


def losses_of(golden, prefix, diffusion, objective="mse"):
    c, t, a = batch(golden, prefix, diffusion)
    x0, noise = a["x_start"], a["noise"]
    xt = q_sample(c, x0, noise)
    found = training_losses(diffusion, c, t, a["model_out"], x0, xt, noise, objective)
    bounded = bound_limits(t) if objective == "kl" or diffusion.learns_variance else FLOAT32
    limits = {"loss": bounded, "mse": FLOAT32, "vb": bounded}
    checks = {f"{prefix}loss/{k}": (array, limits[k]) for k, array in found._asdict().items()}
    return {key: check for key, check in checks.items() if key in golden}


def losses(golden):
    checks = {}
    for prefix, diffusion in processes(golden):
        checks |= losses_of(golden, prefix, diffusion)
    return checks


def options(golden, spacing="50"):
    """Fixed variances, x_0 prediction and the other objectives."""
    checks = {}
    for name, (fields, objective) in OPTIONS.items():
        prefix, diffusion = f"options/{name}/", Diffusion(spacing=spacing, **fields)
        checks |= predictions_of(golden, prefix, diffusion, clips=(True,))
        checks |= losses_of(golden, prefix, diffusion, objective)
    return checks


@partial(jax.jit, static_argnums=0)
def bounded(diffusion, output, x0, noise):
    return variational_bound(diffusion, lambda x, t: output, x0, noise)


def bounds(golden):
    """The variational bound; the recorded network gives the same output at every step."""
    a = {k: jnp.asarray(goldens.channel_last(golden["bpd/" + k])) for k in ("x_start", "noise")}
    output = jnp.asarray(goldens.channel_last(golden["bpd/model_out"]))
    steps = golden["bpd/vb"].shape[1]
    limits = {
        "total_bpd": FLOAT32,
        "prior_bpd": FLOAT32,
        "vb": bound_limits(np.arange(steps)[::-1]),
        "xstart_mse": XSTART,
        "mse": FLOAT32,
    }

    def checks(diffusion):
        bound = bounded(diffusion, output, a["x_start"], a["noise"])
        named = zip(limits.items(), bound, strict=True)
        return {f"bpd/{name}": (array, limit) for (name, limit), array in named}

    return nearest(golden, [checks(one) for one in linear_processes(golden, steps)])


def nearest(golden, candidates):
    """The candidate that fails least: by the process that the group was recorded with."""
    return min(candidates, key=lambda checks: max(failures(golden, checks).values(), default=0.0))


def failures(golden, checks):
    """Keys that deviate by more than the limit, with the largest deviation that does."""
    found = {}
    for key, (got, limit) in checks.items():
        want = golden[key]
        want = goldens.channel_last(want) if want.ndim >= 4 else want
        deviations = goldens.deviations(got, want)
        above = np.where(deviations > limit, deviations, 0.0)
        if np.any(above):
            found[key] = float(np.max(above))
    return found


SECTIONS = {
    f.__name__: f for f in (tables, spacings, forward, predictions, steps, losses, options, bounds)
}


@cache
def evaluated(path):
    golden = goldens.load(path)
    return {name: section(golden) for name, section in SECTIONS.items()}


@pytest.fixture
def checks(golden, request):
    """What each section finds in the file, computed once a session."""
    return evaluated(request.node.callspec.params["golden"])


@pytest.mark.golden("diffusion")
@pytest.mark.parametrize("section", SECTIONS)
def test_equals_the_original(golden, checks, section):
    assert checks[section]
    assert failures(golden, checks[section]) == {}


@pytest.mark.golden("diffusion")
def test_refuses_what_the_original_refuses(golden):
    for num_timesteps, spacing, _ in json.loads(str(golden["space_rejected"])):
        with pytest.raises(ValueError, match=f"spacing '{spacing}'"):
            kept_timesteps(num_timesteps, spacing)


@pytest.mark.golden("diffusion")
def test_sections_leave_no_array_out(golden, checks):
    checked = {key for section in checks.values() for key in section}
    inputs = {key for key in golden.arrays if INPUTS.fullmatch(key)}
    assert checked | inputs | {"space_rejected", ONE_STEP} == set(golden.arrays)


@pytest.mark.golden("diffusion")
@pytest.mark.parametrize("section", SECTIONS)
def test_a_damaged_output_is_noticed(golden, checks, section):
    for key, check in checks[section].items():
        assert failures(golden.damaged(key), {key: check})


@pytest.mark.golden("diffusion")
@pytest.mark.parametrize(
    ("section", "name"),
    [
        ("forward", "x_start"),
        ("forward", "noise"),
        ("predictions", "x"),
        ("predictions", "model_out"),
        ("steps", "step_noise"),
        ("losses", "noise"),
        ("options", "model_out"),
        ("options", "noise"),
        ("bounds", "model_out"),
    ],
)
def test_a_damaged_input_is_noticed(golden, section, name):
    for key in [key for key in golden.arrays if key.endswith("/" + name)]:
        golden = golden.damaged(key)
    assert failures(golden, SECTIONS[section](golden))


@pytest.mark.golden("diffusion")
def test_the_wider_limit_holds_for_the_likelihood_at_t_0_alone(golden, checks):
    for key, check in (checks["losses"] | checks["options"]).items():
        prefix, _, name = key.partition("loss/")
        if not name:
            continue
        wide = name != "mse" and "/fixed_" not in prefix
        for sample, t in enumerate(golden[prefix + "t"]):
            # More than twice the limit: ours may lie on the other side.
            assert noticed(golden, key, sample, check, by=2e-4 if wide and t == 0 else 1e-5)


def noticed(golden, key, where, check, by):
    """Whether the comparison fails when one element is off by this share of the array's rms."""
    array = np.array(golden[key], np.float64)
    array[where] += by * np.sqrt(np.mean(np.square(array)))
    return failures(replace(golden, arrays={key: array}), {key: check})


@pytest.mark.golden("diffusion")
@pytest.mark.parametrize("spacing", ["ddim50", "10,15,25"])
def test_options_of_another_process_are_noticed(golden, spacing):
    found = failures(golden, options(golden, spacing))
    assert {f"options/{name}/pmv_clip1/variance" for name in OPTIONS} <= found.keys()
