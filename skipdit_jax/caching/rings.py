"""What a socket keeps of the past: a ring of R values, written in place, read as a weighted sum.

Every forecast of the published methods is a sum of the last values with weights that the schedule
alone decides (`forecasts`): no list is shifted, no difference is formed on the device.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from skipdit_jax.caching.plan import Ring, RingRows

Slots = Float[Array, "R B *value"]


class Part(NamedTuple):
    """Some of the network's rows in what is kept.

    Attributes:
      rows: how many.
      read: the first that is read.
      written: the first of each place that is written.
    """

    rows: int
    read: int = 0
    written: tuple[int, ...] = (0,)


class Access(NamedTuple):
    """The rings of a socket at one step.

    Attributes:
      ring: how many slots, and whether one is for what is folded.
      row: numbers of the step; None for one slot.
      part: which rows of the network's batch; None for all.
    """

    ring: Ring
    row: RingRows | None = None
    part: Part | None = None

    def read(self, slots: Slots, after: Float[Array, "rows ..."] | None = None) -> Array:
        """The value that a reusing step takes: summed in float32, in the type of the slots.

        Args:
          slots: the ring.
          after: [rows,...], follows from the sum before: else all sums may be made first, and need
            room together.
        """
        if self.part is not None:
            first, last = self.part.read, self.part.read + self.part.rows
            slots = jax.lax.slice_in_dim(slots, first, last, axis=ROWS)
        if self.row is None:
            return slots[0]
        weights = list(self.row.weights)
        if after is not None:  # a barrier would be dropped: nobody uses its other side
            of_rows = after.reshape(len(after), -1)[:, 0].reshape(-1, *(1,) * (slots.ndim - 2))
            weights = [weight + 0.0 * of_rows.astype(jnp.float32) for weight in weights]
        terms = [weights[j] * slots[j].astype(jnp.float32) for j in range(len(slots))]
        # All rings of a step in one fusion are dozens of streams at once: twice as slow on CPU.
        return jax.lax.optimization_barrier(sum(terms[1:], terms[0]).astype(slots.dtype))

    def write(self, slots: Slots, value: Array) -> Slots:
        """The ring behind a step that computes."""
        if self.ring.slots == 1 and self.part is None:
            return value[None]
        if self.ring.folds:
            slots = self._put(slots, self.read(slots), self.ring.slots - 1)
        return self._put(slots, value, 0 if self.row is None else self.row.write)

    def _put(self, slots: Slots, value: Array, slot: Any) -> Slots:
        if self.part is None:
            return jax.lax.dynamic_update_index_in_dim(slots, value, slot, 0)
        for first in self.part.written:
            start = (slot, first, *(0,) * (slots.ndim - 2))
            places = tuple(jnp.asarray(place, jnp.int32) for place in start)
            slots = jax.lax.dynamic_update_slice(slots, value[None], places)
        return slots


ROWS = 1  # axis of the network's rows in whatever is kept


def empty(ring: Ring, value: jax.ShapeDtypeStruct) -> Slots:
    """Zeros: a slot is read before it is written with weight 0 only."""
    return jnp.zeros((ring.slots, *value.shape), value.dtype)
