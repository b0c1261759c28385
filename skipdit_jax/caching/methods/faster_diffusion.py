"""Faster Diffusion (arXiv 2312.09608): most steps run the decoder only, on an earlier encoder."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skipdit_jax.caching.method import Method
from skipdit_jax.caching.plan import Plan, Run, Span
from skipdit_jax.caching.planning import reuse_spans
from skipdit_jax.typing import StepFlags

PUBLISHED_SPLIT = 18 / 28  # of a plain DiT: docs/notes.md, Faster Diffusion as published
PUBLISHED_END = 230 / 250  # of the run: all later steps are key steps
GROUP, REUSED = 10, 6  # of ten steps in a row, the first six reuse


@dataclass(frozen=True, kw_only=True)
class FasterDiffusion(Method):
    """Between key steps the first stages are reused whole; the latents are then not looked at.

    A plain model keeps what enters stage `split`. One with skips keeps all that its first half
    pushed, and runs its second half.

    Attributes:
      split: first stage that always runs, of a plain model; None: as published, 18 of 28.
      full: key steps; (): as the published list of 250 steps, stretched: of ten steps in a row the
        first six reuse (but step 0), until 92 % of the run.
    """

    NAME: ClassVar[str] = "faster-diffusion"
    PAPER: ClassVar[str] = "arXiv 2312.09608"
    EXAMPLE: ClassVar[str] = "faster-diffusion"
    KEEPS: ClassVar[str] = "what the first stages leave, skips too"
    title: ClassVar[str] = "Faster Diffusion"

    split: int | None = None
    full: tuple[int, ...] = ()

    def plan(self, run: Run) -> Plan:
        """The plan of a run; see `CachePolicy`."""
        split = self.split or round(PUBLISHED_SPLIT * run.num_stages)
        if run.num_skips:
            split = run.num_stages // 2
        if not 0 < split < run.num_stages:
            raise ValueError(
                f"Faster Diffusion: found split {split}, wanted 1 to {run.num_stages - 1}"
            )
        span = Span(0, split, skips=run.num_skips > 0)
        return reuse_spans(run, np.where(self._reuse(run), 0, 1), (span,))

    def _reuse(self, run: Run) -> StepFlags:
        step = np.arange(run.steps)
        if self.full:
            return ~np.isin(step, self.full)
        early = step < round(PUBLISHED_END * run.steps)
        return (step > 0) & early & (step % GROUP < REUSED)
