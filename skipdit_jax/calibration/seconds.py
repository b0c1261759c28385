"""How long a step takes: a few short runs, timed behind a first that compiles."""

import statistics
import time
from typing import Any

import jax
from jaxtyping import Array, Key

from skipdit_jax.pipeline import Sampler
from skipdit_jax.typing import Params

ROUNDS = 3


def seconds_of_a_step(
    sampler: Sampler, params: Params, keys: Key[Array, "B"], labels: Any = None
) -> float:
    """Seconds of a step of a batch, the median of some runs.

    Args:
      sampler: of a few steps; all of them are taken to be alike.
      params: weights.
      keys: one per sample, [B].
      labels: one per sample, or whatever the model is conditioned on.
    """

    def run() -> float:
        start = time.perf_counter()
        jax.block_until_ready(sampler(params, keys, labels))
        return time.perf_counter() - start

    run()  # compiles
    return statistics.median(run() for _ in range(ROUNDS)) / len(sampler.inputs.t)
