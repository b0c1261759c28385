"""How alike the features of each stage are at neighbouring steps, in runs without cache.

What a cache reuses is off by as much: Skip-DiT (arXiv 2411.17616) shows it as the similarity of
blocks over steps. Scalars alone leave the loop, so memory does not depend on the number of steps.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from skipdit_jax.calibration.drift import Watched, compared, watched_run
from skipdit_jax.calibration.full_steps import Batch
from skipdit_jax.calibration.uncached import arguments_of
from skipdit_jax.contracts import Hook, StagedModel
from skipdit_jax.evaluation.stability import Likeness, likeness
from skipdit_jax.pipeline import Sampler
from skipdit_jax.typing import Params, Skips

SHALLOW = 1  # stages behind what Skip-Cache reuses, where it saves most


class Similarity(NamedTuple):
    """Of the output of each stage at a step to that at the step before; NaN at the first step.

    Attributes:
      cosine: the mean over samples and tokens.
      relative: sum |v_j - v_(j-1)| / sum |v_(j-1)|.
    """

    cosine: Float[np.ndarray, "S U"]
    relative: Float[np.ndarray, "S U"]


def deep_stage(num_stages: int) -> int:
    """The stage whose output Skip-Cache at branch 1 reuses; the same place in a plain twin."""
    return num_stages - SHALLOW - 1


def watching_stages(model: StagedModel, seen: Watched) -> StagedModel:
    """The same model; leaves what each stage gives in `seen`, by its number."""

    def run(
        h: Array, c: Any, skips: Skips, lo: int, hi: int, hook: Hook | None = None
    ) -> tuple[Array, Skips]:
        hooked = {} if hook is None else {"hook": hook}
        for stage in range(lo, hi):
            h, skips = model.run(h, c, skips, stage, stage + 1, **hooked)
            seen[str(stage)] = h
        return h, skips

    return replace(model, run=run)


def measure_similarity(sampler: Sampler, params: Params, batches: Iterable[Batch]) -> Similarity:
    """The similarity of all stages, of all network rows of some samples.

    Args:
      sampler: without cache.
      params: weights.
      batches: of equal sizes, each (keys [B], what they are conditioned on).

    Raises:
      ValueError: the sampler caches.
    """
    found = [_measured(sampler, params, *batch) for batch in batches]
    cosine, away, size = (np.mean(part, axis=0, dtype=np.float64) for part in zip(*found))  # noqa: B905
    cosine[0] = away[0] = np.nan
    return Similarity(cosine, away / size)


def _measured(sampler: Sampler, params: Params, keys: Key[Array, "B"], labels: Any) -> Any:
    given = arguments_of(sampler, params, keys, labels)
    run = watched_run(sampler.program, *given, watch=watching_stages, run=_similarities, lags=1)
    stages = jax.device_get(run)
    order = sorted(stages, key=int)
    return [np.stack([stages[u][part] for u in order], axis=1) for part in range(3)]


def _similarities(step: Any, start: Any, rows: Any, lags: int) -> dict[str, Likeness]:
    return compared(step, start, rows, lags, _alike)


def _alike(ring: Array, value: Array, known: Bool[Array, "K"]) -> Likeness:
    return likeness(jnp.where(known[0], ring[0], 1), value)
