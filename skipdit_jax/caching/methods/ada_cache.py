"""AdaCache (arXiv 2411.02397): how one update changed says when the next step is computed."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skipdit_jax.caching.decisions import Decision, check_over
from skipdit_jax.caching.method import Method
from skipdit_jax.caching.plan import Plan, Run
from skipdit_jax.caching.planning import decided, reuse_middle
from skipdit_jax.caching.rules import Codebook, CodebookRow, of_all
from skipdit_jax.caching.updates import Updates

CODEBOOKS = {
    "slow": ((0.08, 3), (0.16, 2), (0.24, 1), (0.32, 1), (0.40, 1), (1.0, 1)),
    "fast": ((0.08, 6), (0.16, 5), (0.24, 4), (0.32, 3), (0.40, 2), (1.0, 1)),
    "hundred": ((0.03, 12), (0.05, 10), (0.07, 8), (0.09, 6), (0.11, 4), (1.0, 3)),
}
"""Of Open-Sora at 30 steps, and at 100 (the authors' code); those of Latte were not released."""

THRESHOLDS = 5  # that are read; the rate behind the last holds for all larger changes
LAST_FORCED = 2  # steps at the end that are computed
WINDOW = (0.1, 0.9)  # 10 to 90 of 100 steps: where motion counts
FRAMES, TOKENS = "tattn", "attn"

Entries = tuple[tuple[float | int, int], ...]


@dataclass(frozen=True, kw_only=True)
class AdaCache(Method):
    """Reuses what all stages added for as many steps as a codebook says.

    At a computed step, with Y what a sub-layer of the middle stage adds behind its gate, Y' that of
    the computed step before and r the rate in force, d = sum |Y' - Y| / sum |Y'| / r; the rate of
    the first threshold above d holds from the next step on. With motion regularisation d is
    multiplied by m + |weight (m - m') / r|, m = (q / h0)^h1 / h2 and q how far Y moves from frame
    to frame: clips that move are computed more often.

    Attributes:
      codebook: ((threshold, rate), ...) of up to six, or "slow", "fast" (of 30 steps), "hundred".
      motion: regularise by motion; clips alone.
      sublayer: whose update; "": attention along frames, of pictures attention. Names joined by +
        are summed.
      stages: which stages; (): the middle one. Of several d is the mean, and the last one's rate
        counts.
      strides: distances between frames.
      window: first and last step, counted from 1, where motion counts; None: 10 to 90 %.
      scale: h0, h1 and h2.
      weight: of a change of motion.
      over: whose Y decides, "mean" of all samples, "max" or "each"; see `decisions.OVER`.
    """

    NAME: ClassVar[str] = "adacache"
    PAPER: ClassVar[str] = "arXiv 2411.02397"
    EXAMPLE: ClassVar[str] = "adacache:fast"
    KEEPS: ClassVar[str] = "one update, and what all stages add"
    STATIC: ClassVar[bool] = False
    title: ClassVar[str] = "AdaCache"

    codebook: str | Entries = "fast"
    motion: bool = False
    sublayer: str = ""
    stages: tuple[int, ...] = ()
    strides: tuple[int, ...] = (1,)
    window: tuple[int, int] | None = None
    scale: tuple[float | int, float | int, float | int] = (0.385, 8.0, 1.0)
    weight: float | int = 10.0
    over: str = "mean"

    def __post_init__(self):
        """Raises ValueError for settings that mean nothing."""
        check_over("AdaCache", self.over)
        if isinstance(self.codebook, str) and self.codebook not in CODEBOOKS:
            wanted = f"one of {', '.join(CODEBOOKS)}, or ((threshold, rate), ...)"
            raise ValueError(f"AdaCache: codebook is {self.codebook!r}, wanted {wanted}")
        if not 1 <= len(self._entries) <= THRESHOLDS + 1:
            found = len(self._entries)
            raise ValueError(f"AdaCache: found {found} rates, wanted 1 to {THRESHOLDS + 1}")
        if min(rate for _, rate in self._entries) < 1:
            raise ValueError("AdaCache: found a rate below 1, wanted 1 or more")

    @property
    def _entries(self) -> Entries:
        return CODEBOOKS[self.codebook] if isinstance(self.codebook, str) else self.codebook

    def plan(self, run: Run) -> Plan:
        """The plan of a run; see `CachePolicy`."""
        probe = self._probe(run)
        step = np.arange(run.steps)
        free = (step > 0) & (step < run.steps - LAST_FORCED)
        low, high = self.window or (np.array(WINDOW) * run.steps).round().astype(int)
        rates = [rate for _, rate in self._entries]
        unused = THRESHOLDS + 1 - len(rates)
        thresholds = [-np.inf] * unused + [threshold for threshold, _ in self._entries[:-1]]
        numbers = CodebookRow(
            of_all(run.steps, np.asarray(thresholds, np.float32)),
            of_all(run.steps, np.asarray(rates[:1] * unused + rates, np.int32)),
            (low <= step + 1) & (step + 1 <= high),
            of_all(run.steps, np.asarray((*self.scale, self.weight), np.float32)),
        )
        decision = Decision(probe, Codebook(len(probe.stages)), over=self.over)
        return decided(reuse_middle(run, free, 0, 0, residual=True), decision, free, numbers)

    def _probe(self, run: Run) -> Updates:
        frames = FRAMES in run.sublayers
        names = tuple((self.sublayer or (FRAMES if frames else TOKENS)).split("+"))
        if not set(names) <= set(run.sublayers):
            found = ", ".join(run.sublayers) or "none"
            raise ValueError(
                f"AdaCache: found sub-layers {found} in the model, wanted {' and '.join(names)}"
            )
        if self.motion and not frames:
            raise ValueError("AdaCache: found motion on a model of pictures, wanted one of clips")
        stages = self.stages or ((run.num_stages - 1) // 2,)
        known = set(range(run.num_stages))
        if not set(stages) <= known or list(stages) != sorted(set(stages)):
            last = run.num_stages - 1
            raise ValueError(
                f"AdaCache: stages are {stages}, wanted some of 0 to {last}, ascending"
            )
        return Updates(tuple(stages), names, self.strides if self.motion else ())
