"""The one conditional of the library: one of some kinds of work, with the cheapest first."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from skipdit_jax.typing import Index


def choose(index: Index, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """Returns branches[index](*operands).

    A Python integer leaves only the chosen branch in the program. A traced scalar makes a
    conditional: branch 0 should be the one that passes a cache through. A `lax.cond` with reuse as
    its true side copies the cache twice a step on CPU, one with reuse as its false side twice on a
    GPU, this one never (docs/notes.md, One scan with a conditional). More branches than two are
    conditionals inside each other, as XLA copies whatever three sides of one pass through. The
    index must not be mapped: under vmap all branches would run.
    """
    if isinstance(index, int | np.integer):
        return branches[index](*operands)
    first, *others = branches
    if not others:
        return first(*operands)
    return jax.lax.switch(
        jnp.minimum(index, 1),
        (first, lambda *operands: choose(index - 1, others, *operands)),
        *operands,
    )
