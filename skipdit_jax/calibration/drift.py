"""How far values of a network move from step to step: sums of absolute differences, lag by lag.

A run without cache keeps the last K values of whatever is watched, and leaves with scalars alone,

    part[j, d] = sum |v_(j-d) - v_j|,   whole[j] = sum |v_j|,   d = 1..K

over all rows, tokens and features, so memory does not depend on the number of steps. Sums of
batches add up to those of all samples.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from skipdit_jax import compiler
from skipdit_jax.calibration.uncached import arguments_of, one_step
from skipdit_jax.contracts import Hook, StagedModel, Sublayer
from skipdit_jax.pipeline import Sampler
from skipdit_jax.pipeline.program import Program
from skipdit_jax.sampling import loop
from skipdit_jax.typing import Condition, Latents, Params, Skips

Watched = dict[str, Array]
"""Name -> value of a step."""

Watch = Callable[..., StagedModel]
"""(model, seen) -> the same model, which leaves values in `seen` at trace time."""

PROBE, OUTPUT, RESIDUAL = "probe", "output", "residual"

Step = Callable[[Any, Any], tuple[Any, Watched]]
"""(carry, row) -> (carry of the next step, what is watched)."""

Compare = Callable[[Array, Array, Bool[Array, "K"]], Any]
"""(values of the last K steps, value of this step, which of them there were) -> numbers."""


class Drift(NamedTuple):
    """Sums of what was watched.

    Attributes:
      part: name -> float32 [S,K], of differences to the values 1..K steps earlier; those of steps
        before the first are 0.
      whole: name -> float32 [S], of the values.
    """

    part: Mapping[str, Float[Array | np.ndarray, "S K"]]
    whole: Mapping[str, Float[Array | np.ndarray, "S"]]

    def __add__(self, other: Any) -> "Drift":
        """Of both batches."""
        return jax.tree.map(np.add, self, other)

    def changes(self, name: str) -> Float[np.ndarray, "S"]:
        """From each step to the next, relative to the earlier value: part[j, 1] / whole[j - 1].

        0 of the first step, which has none before.
        """
        part, whole = np.asarray(self.part[name], np.float64), np.asarray(self.whole[name])
        return np.append(0.0, part[1:, 0] / whole[:-1])

    def errors(self, name: str) -> Float[np.ndarray, "S K"]:
        """Relative to the later value, by the earlier step i: part[i + d, d] / whole[i + d].

        NaN where there is no step i + d.
        """
        part, whole = np.asarray(self.part[name]), np.asarray(self.whole[name])
        steps, lags = part.shape
        found = np.full((steps, lags), np.nan)
        for lag in range(1, min(lags, steps - 1) + 1):
            found[:-lag, lag - 1] = part[lag:, lag - 1] / whole[lag:]
        return found


def drift(step: Step, start: Any, rows: Any, lags: int) -> Drift:
    """The sums of a run (traceable).

    Args:
      step: of the run.
      start: its first carry.
      rows: what the steps are given, leaves [S,...].
      lags: K.
    """

    def compare(ring: Array, value: Array, known: Bool[Array, "K"]) -> tuple[Array, Array]:
        return jnp.where(known, _away(ring, value), 0), jnp.abs(value.astype(jnp.float32)).sum()

    found = compared(step, start, rows, lags, compare)
    part, whole = ({name: sums[side] for name, sums in found.items()} for side in (0, 1))
    return Drift(part, whole)


def compared(step: Step, start: Any, rows: Any, lags: int, compare: Compare) -> dict[str, Any]:
    """What a comparison of every value with the last K gives, at all steps (traceable).

    Args:
      step: of the run.
      start: its first carry.
      rows: what the steps are given, leaves [S,...].
      lags: K.
      compare: is given the values of the last K steps, the last one first, the value of this step,
        and which of the K steps there were.

    Returns:
      Name -> what it gave, leaves [S,...].
    """
    shapes = jax.eval_shape(step, start, jax.tree.map(lambda column: column[0], rows))[1]
    ring = {name: jnp.zeros((lags, *v.shape), v.dtype) for name, v in shapes.items()}

    def one(carry: Any, row_and_index: Any) -> tuple[Any, dict[str, Any]]:
        (carry, ring), (row, index) = carry, row_and_index
        carry, values = step(carry, row)
        known = jnp.arange(lags) < index
        found = {name: compare(ring[name], value, known) for name, value in values.items()}
        ring = {name: jnp.concatenate([v[None], ring[name][:-1]]) for name, v in values.items()}
        return (carry, ring), found

    steps = len(jax.tree.leaves(rows)[0])
    return jax.lax.scan(one, (start, ring), (rows, jnp.arange(steps)))[1]


def _away(ring: Array, value: Array) -> Float[Array, "K"]:
    difference = ring.astype(jnp.float32) - value[None].astype(jnp.float32)
    return jnp.abs(difference).sum(axis=tuple(range(1, ring.ndim)))


def watching_updates(model: StagedModel, seen: Watched) -> StagedModel:
    """The same model; leaves what its sub-layers make, before their gates, in `seen`.

    Raises:
      ValueError: the model shows no sub-layers.
    """

    def look(sublayer: Sublayer) -> tuple[Any, Array]:
        gate, update = sublayer.plain()
        seen[site_name(sublayer.stage, sublayer.name)] = update
        return gate, update

    def run(
        h: Array, c: Any, skips: Skips, lo: int, hi: int, hook: Hook | None = None
    ) -> tuple[Array, Skips]:
        return model.run(h, c, skips, lo, hi, hook=look)

    return replace(model, run=run)


def watching_changes(model: StagedModel, seen: Watched) -> StagedModel:
    """The same model; leaves in `seen` what enters its first sub-layer, and what its head gives."""

    def look(sublayer: Sublayer) -> tuple[Any, Array]:
        seen.setdefault(PROBE, sublayer.x)
        return sublayer.plain()

    def run(
        h: Array, c: Any, skips: Skips, lo: int, hi: int, hook: Hook | None = None
    ) -> tuple[Array, Skips]:
        return model.run(h, c, skips, lo, hi, hook=look)

    def head(h: Array, c: Any) -> Array:
        seen[OUTPUT] = model.head(h, c)
        return seen[OUTPUT]

    return replace(model, run=run, head=head)


def watching_residual(model: StagedModel, seen: Watched) -> StagedModel:
    """The same model; leaves what all its stages add to the tokens in `seen`, float32."""

    def run(h: Array, c: Any, skips: Skips, lo: int, hi: int) -> tuple[Array, Skips]:
        leaving, skips = model.run(h, c, skips, lo, hi)
        seen[RESIDUAL] = leaving.astype(jnp.float32) - h.astype(jnp.float32)
        return leaving, skips

    return replace(model, run=run)


def site_name(stage: int, name: str) -> str:
    """As schedules of SmoothCache write it."""
    return f"{name}-{stage}"


def measure_drift(
    sampler: Sampler,
    params: Params,
    keys: Key[Array, "B"],
    labels: Any = None,
    *,
    lags: int,
    watch: Watch = watching_updates,
) -> Drift:
    """The drift of what is watched, on some samples.

    Args:
      sampler: without cache.
      params: weights.
      keys: one per sample, [B].
      labels: one per sample, or whatever the model is conditioned on.
      lags: K.
      watch: shows values of the model: by default the updates of all sub-layers, by `site_name`.

    Raises:
      ValueError: the sampler caches.
    """
    given = arguments_of(sampler, params, keys, labels)
    return jax.device_get(watched_run(sampler.program, *given, watch=watch, run=drift, lags=lags))


@partial(compiler.jit, static_argnames=("program", "watch", "run", "lags"))
def watched_run(
    program: Program,
    params: Params,
    x: Latents,
    keys: Key[Array, "B"],
    condition: Condition,
    inputs: loop.StepInputs,
    *,
    watch: Watch,
    run: Callable[..., Any],
    lags: int,
) -> Any:
    """What `run(step, start, rows, lags)`, such as `drift`, makes of a run without cache."""
    step = watched_step(program, params, x, keys, condition, watch)
    start = (x, program.stepper.initialise(x))
    return run(step, start, jax.tree.map(jnp.asarray, inputs), lags)


def watched_step(
    program: Program,
    params: Params,
    x: Latents,
    keys: Key[Array, "B"],
    condition: Condition,
    watch: Watch,
) -> Step:
    """The step of a run without cache that gives what is watched (traceable); see `one_step`."""

    def step(carry: Any, row: loop.StepInputs) -> tuple[Any, Watched]:
        seen: Watched = {}
        view = partial(watch, seen=seen)
        return one_step(program, params, x, keys, condition, view, carry, row), seen

    return step
