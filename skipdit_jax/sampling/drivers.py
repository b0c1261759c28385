"""Three ways to run a step S times under a plan; all give the same samples.

`scan`: one loop, the flags are data, each step holds a cond: one program for every plan of S steps.
`nested`: the plan cut into equal groups of one full step and its cached steps; no cond, one program
per plan. `unrolled`: a Python loop; the largest program, for comparison.
"""

from collections.abc import Callable
from itertools import groupby
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from skipdit_jax.typing import Flag, StepFlags

DRIVERS = ("scan", "nested", "unrolled")

Carry = Any
Inputs = Any
SamplingStep = Callable[[Carry, Inputs, Flag], tuple[Carry, Any]]
"""(carry, inputs of one step, reuse) -> (carry, outputs of one step)."""


class Segment(NamedTuple):
    """Groups of equal length in a row: `repeats` times one full and `length - 1` cached steps."""

    repeats: int
    length: int


def segments(reuse: StepFlags) -> list[Segment]:
    """Cuts a plan into runs of equal groups.

    Examples:
      >>> segments(np.array([False, True, True, False, True, True, False]))
      [Segment(repeats=2, length=3), Segment(repeats=1, length=1)]
    """
    starts = np.flatnonzero(~np.asarray(reuse))
    lengths = np.diff(np.append(starts, len(reuse)))
    return [Segment(len(list(run)), int(length)) for length, run in groupby(lengths)]


def scan(
    step: SamplingStep, carry: Carry, inputs: Inputs, reuse: Bool[Array, "S"] | None
) -> tuple[Carry, Any]:
    """One `lax.scan`; `reuse` is data. None computes every step in full, without a cond."""
    if reuse is None:
        return jax.lax.scan(lambda carry, row: step(carry, row, False), carry, inputs)
    return jax.lax.scan(lambda carry, row: step(carry, *row), carry, (inputs, reuse))


def nested(step: SamplingStep, carry: Carry, inputs: Inputs, reuse: StepFlags) -> tuple[Carry, Any]:
    """A scan over groups and, inside, a scan over the cached steps of the group."""

    def group(carry: Carry, rows: Inputs) -> tuple[Carry, Any]:
        carry, first = step(carry, _row(rows, 0), False)
        carry, rest = jax.lax.scan(
            lambda carry, row: step(carry, row, True), carry, jax.tree.map(lambda a: a[1:], rows)
        )
        return carry, jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, rest)

    outputs, done = [], 0
    for repeats, length in segments(reuse):
        stop = done + repeats * length
        rows = jax.tree.map(
            lambda a: a[done:stop].reshape(repeats, length, *a.shape[1:]),  # noqa: B023
            inputs,
        )
        carry, out = jax.lax.scan(group, carry, rows)
        outputs.append(jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), out))
        done = stop
    return carry, jax.tree.map(lambda *parts: jnp.concatenate(parts), *outputs)


def unrolled(
    step: SamplingStep, carry: Carry, inputs: Inputs, reuse: StepFlags
) -> tuple[Carry, Any]:
    """A Python loop over the steps."""
    outputs = []
    for i, flag in enumerate(reuse):
        carry, out = step(carry, _row(inputs, i), bool(flag))
        outputs.append(out)
    return carry, jax.tree.map(lambda *rows: jnp.stack(rows), *outputs)


def _row(inputs: Inputs, i: int) -> Inputs:
    return jax.tree.map(lambda a: a[i], inputs)
