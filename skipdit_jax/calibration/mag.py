"""MagCache's ratios (arXiv 2506.09045, section 3.1): how what all stages add shrinks step by step.

gamma_i is the mean over samples and tokens of |R_i| / |R_(i-1)|, norms over features.
"""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from skipdit_jax.calibration.drift import RESIDUAL, compared, watched_run, watching_residual
from skipdit_jax.calibration.full_steps import Batch
from skipdit_jax.calibration.uncached import arguments_of
from skipdit_jax.pipeline import Sampler
from skipdit_jax.typing import Params

Ratios = Float[np.ndarray, "S"]
NONE = 1.0  # of the first step, which has none before


def measure_ratios(sampler: Sampler, params: Params, batches: Iterable[Batch]) -> Ratios:
    """The ratios of samples, the mean over batches of equal size.

    Args:
      sampler: without cache.
      params: weights.
      batches: each (keys [B], what they are conditioned on).

    Raises:
      ValueError: the sampler caches.
    """
    found = []
    for keys, given in batches:
        run = arguments_of(sampler, params, keys, given)
        found.append(
            watched_run(sampler.program, *run, watch=watching_residual, run=ratios, lags=1)
        )
    return np.mean(jax.device_get(found), axis=0)


def ratios(step: Any, start: Any, rows: Any, lags: int) -> Float[Array, "S"]:
    """The ratios of a run (traceable); see `drift.drift`."""
    return compared(step, start, rows, lags, _shrunk)[RESIDUAL]


def _shrunk(ring: Array, value: Array, known: Bool[Array, "K"]) -> Float[Array, ""]:
    before, now = (jnp.linalg.norm(v, axis=-1) for v in (ring[0], value))
    return jnp.where(known[0], (now / jnp.where(known[0], before, 1)).mean(), NONE)
