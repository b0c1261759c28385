"""What a socket keeps of the past: a ring of R values, written in place, read as a weighted sum.

Every forecast of the published methods is a sum of the last values with weights that the schedule
alone decides (`forecasts`): no list is shifted, no difference is formed on the device.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from skipdit_jax.caching.plan import Ring, RingRows

Slots = Float[Array, "R *value"]


def empty(ring: Ring, value: jax.ShapeDtypeStruct) -> Slots:
    """Zeros: a slot is read before it is written with weight 0 only."""
    return jnp.zeros((ring.slots, *value.shape), value.dtype)


def write(ring: Ring, slots: Slots, value: Array, row: RingRows | None) -> Slots:
    """Replaces the slot that this step writes."""
    if ring.slots == 1 or row is None:
        return value[None]
    return jax.lax.dynamic_update_index_in_dim(slots, value, row.write, 0)


def read(ring: Ring, slots: Slots, row: RingRows | None) -> Array:
    """The value that a reusing step takes: summed in float32, in the type of the slots."""
    if ring.slots == 1 or row is None:
        return slots[0]
    terms = [row.weights[j] * slots[j].astype(jnp.float32) for j in range(ring.slots)]
    return sum(terms[1:], terms[0]).astype(slots.dtype)


def kept(ring: Ring, slots: Slots, value: Array, row: Any) -> Slots:
    """The ring behind a reusing step: as it was, unless what was read counts as a value too."""
    return write(ring, slots, value, row) if ring.feedback else slots
