"""Runs without cache that are taken apart step by step: what all calibrations measure on."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Key

from skipdit_jax.contracts import StagedModel
from skipdit_jax.pipeline import Sampler
from skipdit_jax.pipeline.program import Program, denoiser_of
from skipdit_jax.sampling import loop
from skipdit_jax.sampling.steppers import StepState
from skipdit_jax.typing import Condition, Latents, Params

Carry = tuple[Latents, StepState]


def arguments_of(
    sampler: Sampler, params: Params, keys: Key[Array, "B"], labels: Any
) -> tuple[Any, ...]:
    """Weights, initial latents, keys, condition and rows of all steps of a run.

    Raises:
      ValueError: the sampler caches.
    """
    if sampler.plan is not None:
        raise ValueError("calibration: found a sampler with a cache, wanted cache='none'")
    params, x, keys, condition, inputs, *_ = sampler.arguments(params, keys, labels)
    return params, x, keys, condition, inputs


def one_step(
    program: Program,
    params: Params,
    x: Latents,
    keys: Key[Array, "B"],
    condition: Condition,
    view: Callable[[StagedModel], StagedModel],
    carry: Carry,
    row: loop.StepInputs,
) -> Carry:
    """One step of a run of the model as `view` shows it (traceable).

    Args:
      program: of a sampler without cache.
      params: weights.
      x: initial latents; only shape and type matter.
      keys: of the noise of the steps.
      condition: what the family conditions on.
      view: of the model.
      carry: latents, and what the stepper remembers.
      row: inputs of the step.
    """
    noise = loop.sample_noise(keys, program.model.sample_shape)
    denoiser = denoiser_of(program, params, x, condition, keys, view=view)
    latents, state = carry
    (latents, _, state), _ = loop.advance(
        denoiser, program.stepper, program.kind, noise, (latents, denoiser.state, state), row
    )
    return latents, state
