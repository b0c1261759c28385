"""How much a reused value moves the result: measured at all steps, in three samplings.

Where step j reuses what step i made of some stages, their value is off by v_i - v_j. To first order
the result moves by the derivative of all later steps along that. Its squared length is the mean of
its squared products with random directions, and these need no derivative of their own for each pair
(i, j): one backward pass carries a direction from the result to the values of every step,

    effect of (i, j) = <dr/dv_j, v_i - v_j>,   r = <direction, result>,

and a ring of the last K of dr/dv_j and v_j meets the values of the steps before them. A sampling
forward, the same once more beside the backward pass, and that pass, which is one without gradients
of weights: three samplings. Scalars leave the loop. The same passes serve several ranges of stages,
whose values are kept beside each other.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from skipdit_jax import compiler
from skipdit_jax.caching.plan import Span
from skipdit_jax.calibration.uncached import arguments_of, one_step
from skipdit_jax.contracts import StagedModel
from skipdit_jax.pipeline import Sampler
from skipdit_jax.pipeline.program import Program
from skipdit_jax.sampling import loop
from skipdit_jax.typing import Condition, Latents, Params, Skips

Effects = Float[Array, "spans S K B"]
Held = Float[Array, "K spans rows *tokens D"]
Values = Float[Array, "spans rows *tokens D"]


class Passed(NamedTuple):
    """The last K steps of the backward pass, the nearest first.

    Attributes:
      gradients: dr/dv of each.
      values: v of each.
    """

    gradients: Held
    values: Held


def watched(
    model: StagedModel,
    spans: Sequence[Span],
    nudges: Iterable[Any],
    seen: dict[Span, Array],
) -> StagedModel:
    """The same model with a number added to the value of each span, and the values shown.

    Args:
      model: the backbone with its parameters.
      spans: of stages; the value of each is what leaves it, or what it adds (`Span.residual`).
      nudges: what is added, 0 for a value of 0.
      seen: is given the values, at trace time.
    """

    def run(h: Array, c: Any, skips: Skips, lo: int, hi: int) -> tuple[Array, Skips]:
        assert (lo, hi) == (0, model.num_stages), "nothing is reused"
        at, stage = {0: h}, 0
        for edge in sorted({edge for span in spans for edge in (span.lo, span.hi)} - {0}):
            h, skips = model.run(h, c, skips, stage, edge)
            at[edge], stage = h, edge
            for span, nudge in zip(spans, nudges, strict=True):
                if span.hi == edge:
                    seen[span] = at[edge] - at[span.lo] if span.residual else at[edge]
                    h = h + nudge
        return model.run(h, c, skips, stage, hi)

    return replace(model, run=run)


def measure_effects(
    sampler: Sampler,
    params: Params,
    keys: Key[Array, "B"],
    labels: Any = None,
    *,
    spans: Sequence[Span],
    lags: int,
    seed: int = 0,
) -> Float[np.ndarray, "spans S K B"]:
    """Effects of reused values on some samples.

    Args:
      sampler: without cache.
      params: weights.
      keys: one per sample, [B].
      labels: one per sample, or whatever the model is conditioned on.
      spans: ranges of stages; of each the value that is reused, by itself.
      lags: K, how many steps behind a computed one are looked at.
      seed: of the directions of the results, `signs`.

    Returns:
      Of each span, of step i, and lag d = 1..K: how far each result moves in its direction where
      step i + d reuses the value of step i, to first order. 0 where there is no step i + d.

    Raises:
      ValueError: the sampler caches.
    """
    given = arguments_of(sampler, params, keys, labels)
    direction = signs(seed, given[1].shape)
    found = effects(sampler.program, *given, direction, spans=tuple(spans), lags=lags)
    return np.asarray(found)


@partial(compiler.jit, static_argnames=("program", "spans", "lags"))
def effects(
    program: Program,
    params: Params,
    x: Latents,
    keys: Key[Array, "B"],
    condition: Condition,
    inputs: loop.StepInputs,
    direction: Latents,
    *,
    spans: tuple[Span, ...],
    lags: int,
) -> Effects:
    """Effects on samples that are drawn without cache.

    Args:
      program: of a `Sampler` without cache.
      params: weights.
      x: initial latents.
      keys: of the noise of the steps.
      condition: what the family conditions on.
      inputs: rows of all steps.
      direction: of the result, [B,..,C].
      spans: whose values are reused.
      lags: K, how many steps behind a computed one are looked at.

    Returns:
      Float32 [spans,S,K,B], see `measure_effects`.
    """

    def step(carry: Any, nudges: Any, row: loop.StepInputs) -> tuple[Any, Values]:
        seen: dict[Span, Array] = {}
        view = partial(watched, spans=spans, nudges=nudges, seen=seen)
        carry = one_step(program, params, x, keys, condition, view, carry, row)
        return carry, jnp.stack([seen[span] for span in spans])

    still = (0.0,) * len(spans)

    def forward(carry: Any, row: loop.StepInputs) -> tuple[Any, Any]:
        return step(carry, still, row)[0], carry

    def backward(later: tuple[Any, Passed], step_of: Any) -> tuple[Any, Float[Array, "spans K B"]]:
        (gradient, passed), (carry, row) = later, step_of
        _, pull, value = jax.vjp(partial(step, row=row), carry, zero, has_aux=True)
        gradient, of_value = pull(gradient)
        found = _products(passed, value, len(x))
        return (gradient, Passed(*map(_shifted, passed, (of_value, value)))), found

    start, rows = (x, program.stepper.initialise(x)), jax.tree.map(jnp.asarray, inputs)
    first = jax.tree.map(lambda column: column[0], rows)
    shape = jax.eval_shape(lambda carry, row: step(carry, still, row)[1], start, first)
    zero = jnp.zeros(shape.shape, shape.dtype)
    end, carries = jax.lax.scan(forward, start, rows)
    at_end = (direction, jax.tree.map(jnp.zeros_like, end[1]))
    nothing = Passed(*(jnp.zeros((lags, *zero.shape), zero.dtype) for _ in Passed._fields))
    found = jax.lax.scan(backward, (at_end, nothing), (carries, rows), reverse=True)[1]
    return jnp.moveaxis(found, 1, 0)


def _products(passed: Passed, values: Values, samples: int) -> Float[Array, "spans K B"]:
    """<gradient, value of this step less its own> of each later step, summed over a sample's rows.

    Where no step has passed the gradient is 0.
    """
    away = values[None].astype(jnp.float32) - passed.values.astype(jnp.float32)
    product = passed.gradients.astype(jnp.float32) * away
    of_rows = product.sum(axis=tuple(range(3, product.ndim)))
    of_samples = of_rows.reshape(*of_rows.shape[:2], -1, samples).sum(axis=2)
    return jnp.swapaxes(of_samples, 0, 1)


def _shifted(ring: Held, new: Array) -> Held:
    return jnp.concatenate([new[None], ring[:-1]])


def signs(seed: int, shape: tuple[int, ...]) -> Float[np.ndarray, "B *grid C"]:
    """+1 and -1 at random: squared products with them have the squared length for a mean."""
    return 2 * np.random.default_rng(seed).integers(2, size=shape).astype(np.float32) - 1
