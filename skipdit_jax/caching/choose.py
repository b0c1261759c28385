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
    whose branch 0 is `keep`, chosen by an integer: a `lax.cond` with `keep` as its true side copies
    the cache twice a step on CPU, one with `keep` as its false side twice on a GPU, this one never
    (docs/notes.md, One scan with a conditional). The flag must not be mapped: under vmap both
    sides would run.
    """
    if isinstance(reuse, bool | np.bool_):
        return (keep if reuse else fresh)(*operands)
    index = jnp.logical_not(reuse).astype(jnp.int32)
    return jax.lax.switch(index, (keep, fresh), *operands)
