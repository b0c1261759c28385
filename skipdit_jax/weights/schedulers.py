"""What the scheduler of a pipeline of diffusers says of the process and of sampling from it.

Its settings become what our own files state of themselves (`weights.recipe`): fields of `Diffusion`
and of a `Recipe`. Steps are as many as the published samples of the family have.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from skipdit_jax.checkpoints import Checkpoint, CheckpointError
from skipdit_jax.checkpoints.errors import printable, shown
from skipdit_jax.checkpoints.load import NATIVE
from skipdit_jax.checkpoints.pipelines import Pipeline
from skipdit_jax.diffusion.schedules import (
    FLOW,
    LINEAR_RANGE,
    REFERENCE_TIMESTEPS,
    SCALED_LINEAR_RANGE,
    SCHEDULES,
    Diffusion,
)
from skipdit_jax.registry import FAMILIES
from skipdit_jax.sampling.methods import read_method, write_method
from skipdit_jax.sampling.steppers import Ddim, Ddpm, DpmSolver, Euler, FlowEuler, Stepper

SCHEDULER, CONFIG = "scheduler", "scheduler_config.json"
Settings = Mapping[str, Any]

CLASS = "_class_name"
PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v", "sample": "xstart"}
FORMS = {"dpmsolver++": "data", "sde-dpmsolver++": "sde", "dpmsolver": "noise"}
UNKNOWN = (
    "thresholding",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "use_lu_lambdas",
    "use_flow_sigmas",
    "invert_sigmas",
    "stochastic_sampling",
)
"""Settings that change samples and that no sampler here has."""

ENDS = {"zero": "data", "sigma_min": "first"}
VARIANCES = {
    "fixed_small": "fixed_small",
    "fixed_small_log": "fixed_small",
    "fixed_large": "fixed_large",
    "fixed_large_log": "fixed_large",
    "learned_range": None,
}


def with_scheduler(checkpoint: Checkpoint, pipeline: Pipeline | None) -> Checkpoint:
    """The transformer of a pipeline with what the scheduler beside it says of sampling.

    One that no sampler here follows is named in a note, and the published settings hold.
    """
    if pipeline is None or SCHEDULER not in pipeline.classes or checkpoint.which == NATIVE:
        return checkpoint
    published = FAMILIES[checkpoint.family.name].steps
    try:
        found = sampling_of(pipeline.settings(SCHEDULER, CONFIG), published)
        _check(found)
    except (CheckpointError, TypeError, ValueError, AttributeError) as error:
        note = printable(f"{error}: sampled as published for the family")
        return dataclasses.replace(checkpoint, notes=(*checkpoint.notes, note))
    return dataclasses.replace(checkpoint, metadata={**checkpoint.metadata, **found})


def _check(found: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises ValueError, TypeError or AttributeError for what describes no process or sampler."""
    fields = found["diffusion"]
    betas = fields.get("beta_range")
    process = Diffusion(**{**fields, "beta_range": None if betas is None else tuple(betas)})
    process.respace(str(found["sampling"].get("steps", "")))
    stepper = read_method(found["sampling"]["method"])
    if process.zero_snr and getattr(stepper, "karras", False):
        raise ValueError("scheduler: Karras' levels have no end at pure noise")


def sampling_of(settings: Settings, published_steps: str) -> dict[str, dict[str, Any]]:
    """The metadata {"diffusion": ..., "sampling": ...} that a scheduler_config.json amounts to.

    Args:
      settings: the dict in that file.
      published_steps: number or spacing of the published samples of the model's family.

    Raises:
      CheckpointError: settings that no sampler here follows.
    """
    kind = str(settings.get(CLASS))
    if kind not in SAMPLERS:
        known = ", ".join(SAMPLERS)
        raise CheckpointError(f"scheduler: found {shown(repr(kind))}, wanted one of {known}")
    make, spacing = SAMPLERS[kind]
    if ignored := [name for name in UNKNOWN if settings.get(name)]:
        raise CheckpointError(f"scheduler {kind}: {ignored[0]} is not followed here")
    try:
        stepper = make(settings)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"scheduler {kind}: {shown(str(error))}") from error
    sampling: dict[str, Any] = {"method": write_method(stepper)}
    count = (re.findall(r"[0-9]+", published_steps) or ["50"])[0]
    if spacing is None:
        flow = {"schedule": FLOW, "prediction": FLOW, "beta_range": None, "zero_snr": False}
        return {"diffusion": flow, "sampling": sampling}
    rule = _choice(settings, "timestep_spacing", ("leading", "trailing", "linspace"), spacing)
    offset = settings.get("steps_offset", 0)
    sampling["steps"] = f"{rule}{count}" + (f"+{offset}" if rule == "leading" and offset else "")
    return {"diffusion": _process(settings), "sampling": sampling}


def _process(settings: Settings) -> dict[str, Any]:
    """Fields of `Diffusion`."""
    if settings.get("trained_betas") is not None:
        raise CheckpointError("scheduler: has betas of its own, wanted a beta_schedule")
    schedule = _choice(settings, "beta_schedule", SCHEDULES, SCHEDULES[0])
    prediction = _choice(settings, "prediction_type", tuple(PREDICTIONS), "epsilon")
    first, last = LINEAR_RANGE
    betas = [settings.get("beta_start", first), settings.get("beta_end", last)]
    length = settings.get("num_train_timesteps", REFERENCE_TIMESTEPS)
    if schedule == SCHEDULES[0]:  # ours are those of a process of 1000, and stretched
        betas = [beta * length / REFERENCE_TIMESTEPS for beta in betas]
    usual = {"linear": LINEAR_RANGE, "scaled_linear": SCALED_LINEAR_RANGE}.get(schedule)
    return {
        "schedule": schedule,
        "num_timesteps": length,
        "beta_range": None if usual is None or tuple(betas) == usual else betas,
        "prediction": PREDICTIONS[prediction],
        "zero_snr": bool(settings.get("rescale_betas_zero_snr", False)),
    }


def _choice(settings: Settings, name: str, choices: tuple[str, ...], usual: str) -> str:
    found = settings.get(name, usual)
    if found not in choices:
        raise CheckpointError(
            f"scheduler: {name} is {shown(repr(found))}, wanted {', '.join(choices)}"
        )
    return str(found)


def _end(settings: Settings) -> str:
    found = _choice(settings, "final_sigmas_type", tuple(ENDS), "zero")
    return ENDS[found] if settings.get("set_alpha_to_one", True) else "first"


def _ddim(settings: Settings) -> Stepper:
    clip = _clips(settings)
    told = clip or bool(settings.get("rescale_betas_zero_snr", False))  # else it is the same noise
    return Ddim(stride=_strides(settings), end=_end(settings), clip=clip, told=told)


def _ddpm(settings: Settings) -> Stepper:
    name = _choice(settings, "variance_type", tuple(VARIANCES), "fixed_small")
    clip = _clips(settings)
    return Ddpm(stride=_strides(settings), variance=VARIANCES[name], clip=clip)


def _strides(settings: Settings) -> bool:
    """Whether steps end elsewhere than at the next timestep: leading ones are a stride apart."""
    return settings.get("timestep_spacing", "leading") != "leading"


def _clips(settings: Settings) -> bool:
    clips = bool(settings.get("clip_sample", True))  # the default of diffusers
    if clips and settings.get("clip_sample_range", 1.0) != 1.0:
        raise ValueError(f"clips to {settings['clip_sample_range']!r}, wanted 1.0")
    return clips


def _dpm(settings: Settings) -> Stepper:
    lowest = settings.get("lambda_min_clipped", -math.inf)
    return DpmSolver(
        order=settings.get("solver_order", 2),
        form=FORMS[_choice(settings, "algorithm_type", tuple(FORMS), "dpmsolver++")],
        rule=_choice(settings, "solver_type", ("midpoint", "heun"), "midpoint"),
        karras=bool(settings.get("use_karras_sigmas", False)),
        end=_end(settings),
        lower_order_final=bool(settings.get("lower_order_final", True)),
        euler_at_final=bool(settings.get("euler_at_final", False)),
        lowest=None if lowest == -math.inf else lowest,
    )


def _euler(settings: Settings) -> Stepper:
    return Euler(karras=bool(settings.get("use_karras_sigmas", False)), end=_end(settings))


def _flow(settings: Settings) -> Stepper:
    if settings.get("use_dynamic_shifting", False):
        raise ValueError("its shift depends on the size of the picture, wanted one for all")
    return FlowEuler(shift=settings.get("shift", 1.0), terminal=settings.get("shift_terminal"))


SAMPLERS: Mapping[str, tuple[Callable[[Settings], Stepper], str | None]] = {
    "DDIMScheduler": (_ddim, "leading"),
    "DDPMScheduler": (_ddpm, "leading"),
    "DPMSolverMultistepScheduler": (_dpm, "linspace"),
    "EulerDiscreteScheduler": (_euler, "linspace"),
    "FlowMatchEulerDiscreteScheduler": (_flow, None),
}
"""Class of diffusers -> what makes its sampler, and how it lays out steps if it does not say."""
