"""AdaCache's codebook (arXiv 2411.02397, section 3.2): from how much one update changed to a rate.

The paper sets its codebooks by hand. Here it follows from what is measured: behind each step, how
many may reuse what its stages added before that is off by more than a limit. The rate of a change
is the number that such steps allow, where a larger change allows no more: the isotonic regression
of one on the other, rounded down. The limit is found by trial.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int
from scipy.optimize import isotonic_regression

from skipdit_jax.caching.updates import Updates
from skipdit_jax.calibration.drift import RESIDUAL, Drift, Watched, site_name, watching_residual
from skipdit_jax.contracts import Hook, StagedModel
from skipdit_jax.typing import Skips

FASTEST = 6  # steps from one that is computed to the next: of the published "fast" codebook
UPDATE = "update"
LAST = 1.0  # the bound of the last entry, which is not read

Entries = tuple[tuple[float, int], ...]
"""((bound of a change, rate below it), ...), as `AdaCache` has it."""


@dataclass(frozen=True)
class Looking:
    """Shows what AdaCache looks at, and what it reuses.

    Attributes:
      probe: of its plan.
    """

    probe: Updates

    def __call__(self, model: StagedModel, seen: Watched) -> StagedModel:
        """See `drift.Watch`."""

        def run(
            h: Array, c: Any, skips: Skips, lo: int, hi: int, hook: Hook | None = None
        ) -> tuple[Array, Skips]:
            found: dict[int, Array] = {}
            left = model.run(h, c, skips, lo, hi, hook=self.probe.hook(found))
            seen.update({site_name(stage, UPDATE): value for stage, value in found.items()})
            return left

        return watching_residual(replace(model, run=run), seen)


def pairs_of(
    batches: Sequence[Drift], limit: float
) -> tuple[Float[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """At every step of every batch: how much updates changed, and the rate that a limit allows.

    The first step has no change, and of the last ones too little is known.

    Args:
      batches: of `Looking`; K lags allow rates up to K + 1.
      limit: of the error of what is reused, relative.
    """
    changes, rates = [], []
    for one in batches:
        looked = [one.changes(name) for name in one.part if name != RESIDUAL]
        errors = one.errors(RESIDUAL)
        known = slice(1, len(errors) - errors.shape[1])
        allowed = np.cumprod(errors[known] <= limit, axis=1).sum(axis=1)
        changes.append(np.mean(looked, axis=0)[known])
        rates.append(1 + allowed)
    return np.concatenate(changes), np.concatenate(rates)


def codebook(changes: Float[np.ndarray, "n"], rates: Int[np.ndarray, "n"]) -> Entries:
    """The codebook of such pairs: ((bound, rate), ...), as `AdaCache` reads it.

    Args:
      changes: relative, from step to step.
      rates: steps to the next computed one.
    """
    order = np.argsort(changes, kind="stable")
    allowed = isotonic_regression(rates[order].astype(np.float64), increasing=False).x
    entries: list[tuple[float, int]] = []
    for rate in range(FASTEST, 1, -1):
        fitting = changes[order][allowed >= rate]
        above = (
            float(np.nextafter(np.float32(fitting[-1]), np.float32(np.inf))) if len(fitting) else 0
        )
        if above > (entries[-1][0] if entries else 0):  # else no change has this rate
            entries.append((above, rate))
    return (*entries, (LAST, 1))
