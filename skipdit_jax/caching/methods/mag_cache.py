"""MagCache (arXiv 2506.09045): how residuals shrink from step to step decides, before the run.

A calibration measures gamma_i, the mean over tokens of |R_i| / |R_(i-1)| with R = h_U - h_0; the
schedule follows from these numbers alone.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from skipdit_jax.caching.method import Method
from skipdit_jax.caching.plan import Plan, Run
from skipdit_jax.caching.planning import reuse_middle
from skipdit_jax.typing import StepFlags


@dataclass(frozen=True, kw_only=True)
class MagCache(Method):
    """Reuses what all stages added to the tokens while the error that gamma predicts is small.

    From step int(retention S + 0.5) on, with a = 1 and e = n = 0 behind each computed step,

        a *= gamma_i,  n += 1,  e += |1 - a|;    reuse if e <= threshold and n <= K

    Attributes:
      file: JSON list of the ratios gamma, in sampling order; or
      ratios: the ratios. Those of another number of steps are resampled to the nearest index.
      threshold: of e.
      max_skips: K, steps reused in a row.
      retention: share of the steps at the start that are computed.
    """

    NAME: ClassVar[str] = "mag"
    PAPER: ClassVar[str] = "arXiv 2506.09045"
    EXAMPLE: ClassVar[str] = "mag:FILE.json"
    KEEPS: ClassVar[str] = "what all stages add"
    title: ClassVar[str] = "MagCache"

    file: str = ""
    threshold: float | int = 0.06
    max_skips: int = 3
    retention: float | int = 0.2
    ratios: tuple[float | int, ...] = ()

    def __post_init__(self):
        """Raises ValueError for settings that mean nothing."""
        if bool(self.file) == bool(self.ratios):
            raise ValueError("MagCache: wanted a file or ratios, one of them")
        if not 0 <= self.retention <= 1:
            raise ValueError(f"MagCache: retention is {self.retention}, wanted 0 to 1")

    def plan(self, run: Run) -> Plan:
        """The plan of a run; see `CachePolicy`."""
        gammas = resampled(self._ratios(), run.steps)
        return reuse_middle(run, self._reuse(gammas), 0, 0, residual=True)

    def _reuse(self, gammas: Float[np.ndarray, "S"]) -> StepFlags:
        steps = len(gammas)
        reuse = np.zeros(steps, bool)
        product, error, skipped = 1.0, 0.0, 0
        for step in range(max(1, int(self.retention * steps + 0.5)), steps):
            product *= gammas[step]
            error, skipped = error + abs(1 - product), skipped + 1
            reuse[step] = error <= self.threshold and skipped <= self.max_skips
            if not reuse[step]:
                product, error, skipped = 1.0, 0.0, 0
        return reuse

    def _ratios(self) -> tuple[float | int, ...]:
        if not self.file:
            return self.ratios
        try:
            found = json.loads(Path(self.file).read_text())
            return tuple(float(ratio) for ratio in found)
        except (OSError, TypeError, ValueError) as error:
            raise ValueError(f"{self.file}: found no list of ratios ({error})") from error


def resampled(ratios: tuple[float | int, ...], steps: int) -> Float[np.ndarray, "S"]:
    """Ratios for another number of steps: those of the nearest index, halves to even."""
    if len(ratios) == steps:
        return np.array(ratios, np.float64)
    places = np.arange(steps) * (len(ratios) - 1) / max(steps - 1, 1)
    return np.array(ratios, np.float64)[np.round(places).astype(int)]
