"""The compiled sampler: what it is made for, and what it is given."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from skipdit_jax import compiler
from skipdit_jax.caching.decisions import EACH
from skipdit_jax.caching.plan import Kinds, Sockets
from skipdit_jax.caching.summary import bytes_of
from skipdit_jax.contracts import Backbone, StagedModel
from skipdit_jax.diffusion.schedules import Parameterization
from skipdit_jax.models.stack import bind
from skipdit_jax.sampling import loop
from skipdit_jax.sampling.denoiser import Denoiser, make_denoiser
from skipdit_jax.sampling.steppers import Stepper
from skipdit_jax.typing import Condition, Params, Scalar

HOISTED_ANYHOW = 2**28  # bytes of texts read once that are never too many: a hundredth of 24 GB

Images = Float[Array, "B *grid C"]
Given = Float[Array | np.ndarray, "B *grid C"]
Scale = float | int | Scalar


class Sampled(NamedTuple):
    """Samples with what is known of their run.

    Attributes:
      samples: float32 [B,H,W,C].
      kinds: of every step, int32 [S] for each filled socket of the cache: the last kind of a socket
        computes everything. Where each sample decides for itself, [B,S]; where condition and no
        condition do, [S,2].
      compared: float32, like the kinds: the number that a method which decides looked at, 0 where
        it looked at none; None for others.
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
    hoist: bool | None = None  # make once what depends on the condition alone; `most_hoisted`


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
    counted: Any = None,
    view: Callable[[StagedModel], StagedModel] = lambda model: model,
) -> Denoiser:
    """The call of a step, and the state it starts from; of the model as `view` shows it."""
    if keys is not None and program.sockets.draws:
        keys = jax.vmap(lambda key: jax.random.fold_in(key, CACHE_DRAWS))(keys)
    model, guided = program.model, program.guided_channels is not None
    hoist = program.hoist
    if hoist is None:
        hoist = bytes_of(digest_of(program, params, condition)) <= most_hoisted(params)
    return make_denoiser(
        view(bind(model, params)),
        x,
        condition,
        model.conditioning.null(condition) if guided else None,
        program.guided_channels,
        program.sockets,
        hoist,
        counted,
        keys if program.sockets.draws else None,
    )


def digest_of(program: Program, params: Params, condition: Condition) -> Any:
    """Shapes and types of all that a run's condition and null can be made into before its steps.

    None of a model that reads its condition at each step anyhow.
    """
    model, guided = program.model, program.guided_channels is not None
    if bind(model, params).digest is None:
        return None

    def made(params: Params, condition: Condition) -> list[Any]:
        null = [model.conditioning.null(condition)] if guided else []
        return [bind(model, params).digest(one) for one in (condition, *null)]

    return jax.eval_shape(made, params, condition)


def most_hoisted(params: Params) -> int:
    """Bytes up to which what depends on the condition alone is made once where nobody says.

    As many as the weights have: beside them, memory for it at most doubles. It grows with the
    batch, and so do activations; weights do not, so they are the measure of what a device was
    chosen for. Little is never too much.
    """
    return max(bytes_of(params), HOISTED_ANYHOW)


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
    if program.static_kinds is not None:
        plan = plan._replace(kinds=program.static_kinds)

    def draw(x: Images, keys: Any, condition: Condition, counted: Any) -> Any:
        return loop.run(
            denoiser_of(program, params, x, condition, keys, counted),
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

    decision = program.sockets.decision
    if decision is not None and decision.over == EACH:
        samples, taps = _one_by_one(draw, x, keys, condition)
    else:
        samples, taps = draw(x, keys, condition, plan.counted)
    if program.details and taps is not None:
        return Sampled(samples, taps.kinds, taps.compared, taps if program.taps else None)
    return (samples, taps) if program.taps else samples


def _one_by_one(
    draw: Any, x: Images, keys: Key[Array, "B"], condition: Condition
) -> tuple[Images, loop.Taps | None]:
    """Each sample in a batch of its own, one after the other: what it reuses it alone decides."""

    def alone(one: Any) -> Any:
        return draw(*jax.tree.map(lambda leaf: leaf[None], one), None)

    samples, taps = jax.lax.map(alone, (x, keys, condition))  # [B,1,...], [B,S,...]
    if taps is not None:
        made = jax.tree.map(lambda a: jnp.moveaxis(a[:, :, 0], 0, 1), taps[:2])
        taps = taps._replace(model_output=made[0], sample=made[1])
    return samples[:, 0], taps
