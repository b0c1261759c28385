"""Forecasts at distances that only the loop knows: `forecasts`, one step at a time on the device.

What they know of the past are weights of the ring's slots, a few numbers: values are summed as
those of the static methods are.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from skipdit_jax.caching import forecasts
from skipdit_jax.caching.decisions import Hold, LiveForecast
from skipdit_jax.caching.forecasts import FOCA_KEPT, FOCA_REACH
from skipdit_jax.caching.plan import Ring, RingRows
from skipdit_jax.typing import Flag

Step = Int[Array, ""]


class Differences(NamedTuple):
    """Of Taylor's polynomial.

    Attributes:
      weights: of the slots in the i-th difference at the last computed step; zeros where it does
        not exist yet.
      done: how many steps were computed.
      last: the last of them.
    """

    weights: Float[Array, "R R"]
    done: Step
    last: Step


@dataclass(frozen=True)
class LiveTaylor:
    """Taylor's polynomial, equations (1) and (2) of `forecasts.taylor`.

    Attributes:
      order: O.
      first: computed steps before this one form no differences.
    """

    order: int
    first: int = 0

    @property
    def ring(self) -> Ring:
        """The last O + 1 values."""
        return Ring(self.order + 1)

    def start(self) -> Differences:
        """No difference exists."""
        none = jnp.zeros((), jnp.int32)
        return Differences(jnp.zeros((self.order + 1,) * 2, jnp.float32), none, none)

    def follow(self, past: Differences, step: Step, computed: Flag) -> tuple[RingRows, Differences]:
        """See `LiveForecast`."""
        slots = self.order + 1
        slot, since = past.done % slots, jnp.maximum(step - past.last, 1).astype(jnp.float32)
        terms = [past.weights[i] * since**i / math.factorial(i) for i in range(slots)]
        new = [jnp.eye(slots, dtype=jnp.float32)[slot]]
        for i in range(self.order):
            exists = (step >= self.first) & past.weights[i].any()
            new.append(jnp.where(exists, (new[-1] - past.weights[i]) / since, 0.0))
        behind = Differences(jnp.stack(new), past.done + 1, step)
        row = RingRows._make((slot, sum(terms[1:], start=terms[0])))
        return row, _where(computed, behind, past)


class Window(NamedTuple):
    """Of FoCa.

    Attributes:
      last: weights of the slots in the last two values of whatever kind, the newest behind.
      done: how many steps were computed.
      newest: the last of them.
    """

    last: Float[Array, "2 R"]
    done: Step
    newest: Step


@dataclass(frozen=True)
class LiveFoca:
    """FoCa, equations (1) and (2) of `forecasts.foca`."""

    ring: ClassVar[Ring] = Ring(FOCA_KEPT + 1, folds=True)

    def start(self) -> Window:
        """No value exists."""
        none = jnp.zeros((), jnp.int32)
        return Window(jnp.zeros((2, FOCA_KEPT + 1), jnp.float32), none, none)

    def follow(self, past: Window, step: Step, computed: Flag) -> tuple[RingRows, Window]:
        """See `LiveForecast`."""
        slots = jnp.eye(FOCA_KEPT + 1, dtype=jnp.float32)
        slot = past.done % FOCA_KEPT
        newest, older = slots[(past.done - 1) % FOCA_KEPT], slots[slot]
        since = jnp.maximum(step - past.newest, 1).astype(jnp.float32)
        slope = jnp.where(since <= FOCA_REACH, since / 2, 1.5 * FOCA_REACH / since)
        moved = (newest - older) + (past.last[1] - past.last[0])
        known = past.done >= FOCA_KEPT
        forecast = jnp.where(known, newest + slope * moved, newest)
        behind = Window(jnp.stack([slots[-1], slots[slot]]), past.done + 1, step)
        reused = past._replace(last=jnp.stack([past.last[1], forecast]))
        row = RingRows._make((slot, jnp.where(computed, past.last[1], forecast)))
        return row, _where(computed, behind, reused)


def _where(computed: Flag, new: Any, old: Any) -> Any:
    return type(old)(*(jnp.where(computed, a, b) for a, b in zip(new, old, strict=True)))


def by_name(name: str, first: int = 0) -> LiveForecast:
    """Reads the names of `forecasts.by_name`.

    Args:
      name: of a forecast.
      first: see `LiveTaylor`.

    Raises:
      ValueError: another name.
    """
    forecasts.by_name(name)
    if name == "foca":
        return LiveFoca()
    order = int(name.removeprefix("taylor")) if name != "hold" else 0
    return LiveTaylor(order, first) if order else Hold()
