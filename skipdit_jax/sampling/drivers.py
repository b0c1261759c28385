"""Three ways to run a step S times under a plan; all give the same samples.

`scan`: one loop, the kinds of step are data, each step chooses among them: one program for every
plan of S steps and these kinds. `nested`: the plan cut into equal groups of one full step and what
follows it; nothing is chosen at run time, one program per plan. `unrolled`: a Python loop; the
largest program, for comparison.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

DRIVERS = ("scan", "nested", "unrolled")

Carry = Any
Inputs = Any
Kind = Any
"""The kind of a step: a hashable that is fixed in the program, or traced numbers."""

SamplingStep = Callable[[Carry, Inputs, Kind], tuple[Carry, Any]]
"""(carry, inputs of one step, kind) -> (carry, outputs of one step)."""


class Segment(NamedTuple):
    """Groups of equal kinds in a row: `repeats` times these steps."""

    repeats: int
    kinds: tuple[Kind, ...]


def segments(kinds: Sequence[Kind]) -> list[Segment]:
    """Cuts a plan into runs of equal groups; each group begins with a step of the first one's kind.

    Examples:
      >>> segments([1, 0, 0, 1, 0, 0, 1])
      [Segment(repeats=2, kinds=(1, 0, 0)), Segment(repeats=1, kinds=(1,))]
    """
    groups: list[tuple[Kind, ...]] = []
    for kind in kinds:
        groups = [*groups, (kind,)] if kind == kinds[0] else [*groups[:-1], (*groups[-1], kind)]
    return [Segment(len(list(run)), group) for group, run in groupby(groups)]


def scan(step: SamplingStep, carry: Carry, inputs: Inputs, kinds: Any) -> tuple[Carry, Any]:
    """One `lax.scan`; the kinds are data, arrays [S]."""
    return jax.lax.scan(lambda carry, row: step(carry, *row), carry, (inputs, kinds))


def nested(
    step: SamplingStep, carry: Carry, inputs: Inputs, kinds: Sequence[Kind]
) -> tuple[Carry, Any]:
    """A scan over groups and, inside, a scan over each run of equal steps behind the first."""

    def group(kinds: tuple[Kind, ...], carry: Carry, rows: Inputs) -> tuple[Carry, Any]:
        carry, first = step(carry, _row(rows, 0), kinds[0])
        outputs, done = [jax.tree.map(lambda a: a[None], first)], 1
        for kind, run in groupby(kinds[1:]):
            stop = done + len(list(run))
            carry, out = jax.lax.scan(
                lambda carry, row: step(carry, row, kind),  # noqa: B023
                carry,
                jax.tree.map(lambda a: a[done:stop], rows),  # noqa: B023
            )
            outputs, done = [*outputs, out], stop
        return carry, _concatenate(outputs)

    outputs, done = [], 0
    for repeats, pattern in segments(kinds):
        length = len(pattern)
        stop = done + repeats * length
        rows = jax.tree.map(
            lambda a: a[done:stop].reshape(repeats, length, *a.shape[1:]),  # noqa: B023
            inputs,
        )
        carry, out = jax.lax.scan(lambda c, rows: group(pattern, c, rows), carry, rows)  # noqa: B023
        outputs.append(jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), out))
        done = stop
    return carry, _concatenate(outputs)


def unrolled(
    step: SamplingStep, carry: Carry, inputs: Inputs, kinds: Sequence[Kind]
) -> tuple[Carry, Any]:
    """A Python loop over the steps."""
    outputs = []
    for i, kind in enumerate(kinds):
        carry, out = step(carry, _row(inputs, i), kind)
        outputs.append(out)
    return carry, jax.tree.map(lambda *rows: jnp.stack(rows), *outputs)


def _row(inputs: Inputs, i: int) -> Inputs:
    return jax.tree.map(lambda a: a[i], inputs)


def _concatenate(outputs: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *outputs)
