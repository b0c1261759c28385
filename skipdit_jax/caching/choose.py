"""The one conditional of the library: reuse or compute, with the cheap side first."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from skipdit_jax.typing import Flag


def choose(reuse: Flag, keep: Callable[..., Any], fresh: Callable[..., Any], *operands: Any) -> Any:
    """Returns keep(*operands) where `reuse` is True, else fresh(*operands).

    A Python bool leaves only the chosen side in the program. A traced scalar makes one conditional
    whose branch 0 is `keep`: as branch 1 (the true side of a `lax.cond`) XLA copies a cache that
    passes through it two or three times a step, as branch 0 not at all (docs/notes.md, One scan
    with a conditional). The flag must not be mapped: under vmap both sides would run.
    """
    if isinstance(reuse, bool | np.bool_):
        return (keep if reuse else fresh)(*operands)
    return jax.lax.cond(jnp.logical_not(reuse), fresh, keep, *operands)
