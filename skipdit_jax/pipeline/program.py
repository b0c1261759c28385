"""The compiled sampler: what it is made for, and what it is given."""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from skipdit_jax import compiler
from skipdit_jax.caching.plan import Kinds, Sockets
from skipdit_jax.contracts import Backbone
from skipdit_jax.diffusion.schedules import Parameterization
from skipdit_jax.models.stack import bind
from skipdit_jax.sampling import loop
from skipdit_jax.sampling.denoiser import Denoiser, make_denoiser
from skipdit_jax.sampling.steppers import Stepper
from skipdit_jax.typing import Condition, Params, Scalar

Images = Float[Array, "B *grid C"]
Given = Float[Array | np.ndarray, "B *grid C"]
Scale = float | int | Scalar


class Sampled(NamedTuple):
    """Samples with what is known of their run.

    Attributes:
      samples: float32 [B,H,W,C].
      kinds: of every step, int32 [S] for each filled socket of the cache: the last kind of a socket
        computes everything.
      compared: float32 [S], the number that a method which decides looked at; None for others.
      taps: what every step made, if asked for too.
    """

    samples: Images
    kinds: Kinds
    compared: Array | None
    taps: loop.Taps | None


Samples = Images | tuple[Images, loop.Taps] | Sampled | Any
"""Samples, with taps a pair; Any spares callers a cast."""


CACHE_DRAWS = 2**31  # behind the number of every step: no draw of a cache is one of the noise


@dataclasses.dataclass(frozen=True)
class Program:
    """What a compiled sampler depends on; everything else is data."""

    model: Backbone
    kind: Parameterization
    stepper: Stepper
    guided_channels: int | None  # None: a single batch
    sockets: Sockets
    driver: str
    static_kinds: Kinds | None  # where they are fixed in the program, tuples
    taps: bool = False
    details: bool = False
    hoist: bool = False  # what depends on the condition alone is made before the first step


@partial(jax.jit, static_argnames="shape")
def split_and_draw(keys: Key[Array, "B"], shape: tuple[int, ...]) -> tuple[Images, Key[Array, "B"]]:
    """Initial noise and the keys of the steps. A program of its own, shared by all samplers."""
    first, later = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
    return loop.normal(first, shape), later


def denoiser_of(
    program: Program,
    params: Params,
    x: Images,
    condition: Condition,
    keys: Key[Array, "B"] | None = None,
) -> Denoiser:
    """The call of a step, and the state it starts from."""
    if keys is not None and program.sockets.draws:
        keys = jax.vmap(lambda key: jax.random.fold_in(key, CACHE_DRAWS))(keys)
    model, guided = program.model, program.guided_channels is not None
    return make_denoiser(
        bind(model, params),
        x,
        condition,
        model.conditioning.null(condition) if guided else None,
        program.guided_channels,
        program.sockets,
        program.hoist,
        keys if program.sockets.draws else None,
    )


@partial(compiler.jit, static_argnames="program")
def sampling_run(
    program: Program,
    params: Params,
    x: Images,
    keys: Key[Array, "B"],
    condition: Condition,
    inputs: loop.StepInputs,
    plan: loop.Steps,
    listener: Any = None,
) -> Samples:
    """Draws one batch; see `calls.sample`."""
    denoiser = denoiser_of(program, params, x, condition, keys)
    if program.static_kinds is not None:
        plan = plan._replace(kinds=program.static_kinds)
    samples, taps = loop.run(
        denoiser,
        program.stepper,
        program.kind,
        x,
        inputs,
        loop.sample_noise(keys, program.model.sample_shape),
        plan=plan,
        driver=program.driver,
        taps=program.taps,
        details=program.details,
        listener=listener,
    )
    if program.details and taps is not None:
        return Sampled(samples, taps.kinds, taps.compared, taps if program.taps else None)
    return (samples, taps) if program.taps else samples
