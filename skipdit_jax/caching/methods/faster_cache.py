"""FasterCache (arXiv 2410.19355): attention extrapolated, the half without condition left out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skipdit_jax.caching.forecasts import Computed, Forecast, Weights, recursive
from skipdit_jax.caching.guides import DifferenceGuide, DifferenceRow
from skipdit_jax.caching.method import Method
from skipdit_jax.caching.plan import Kinds, Plan, Ring, RingRows, Rows, Run, Sockets
from skipdit_jax.caching.planning import reuse_sublayers, together
from skipdit_jax.typing import StepFlags

VARIANTS = ("paper", "diffusers")
PUBLISHED_STEPS = 50  # for which the calls below were published; other runs are stretched
ATTENTION_FROM, GUIDANCE_FROM, HIGH_FROM = 16, 18, 45  # calls, counted from 1

Window = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class FasterCache(Method):
    """Reuses attention as c1 + w (c1 - c0) of its last two values, and the guidance difference.

    "paper" follows the authors' script: attention is reused at even calls from the 16th of 50 on
    that find two values of as many rows; from the 18th on only each fifth call runs both halves.
    "diffusers" follows its hook: windows of timesteps, attention is reused where the condition runs
    alone, and a forecast counts as a value.

    Attributes:
      attention: reuse attention.
      guidance: leave out halves; None: if there is guidance.
      variant: "paper" or "diffusers".
      weight: w.
      attention_every: of so many calls one computes attention.
      guidance_every: of so many calls one runs both halves.
      alpha: by which a band grows at each call alone.
      spatial_window: diffusers: (low, high) timesteps of attention reuse.
      temporal_window: diffusers: the same for attention along frames.
      guidance_window: diffusers: where halves are left out.
      low_window: diffusers: where the low band grows.
      high_window: diffusers: where the high band grows.
    """

    NAME: ClassVar[str] = "faster-cache"
    PAPER: ClassVar[str] = "arXiv 2410.19355"
    EXAMPLE: ClassVar[str] = "faster-cache"
    KEEPS: ClassVar[str] = "two last values of attention; difference of the guided halves"
    title: ClassVar[str] = "FasterCache"

    attention: bool = True
    guidance: bool | None = None
    variant: str = "paper"
    weight: float | int = 0.5
    attention_every: int = 2
    guidance_every: int = 5
    alpha: float | int = 1.1
    spatial_window: Window = (-1, 681)
    temporal_window: Window = (-1, 681)
    guidance_window: Window = (-1, 641)
    low_window: Window = (99, 901)
    high_window: Window = (-1, 301)

    def __post_init__(self):
        """Raises ValueError for settings that mean nothing."""
        if self.variant not in VARIANTS:
            found, wanted = self.variant, " or ".join(VARIANTS)
            raise ValueError(f"FasterCache: variant is {found!r}, wanted {wanted}")
        if min(self.attention_every, self.guidance_every) < 1:
            raise ValueError("FasterCache: found an interval below 1, wanted 1 or more")
        if not self.attention and self.guidance is False:
            raise ValueError(
                "FasterCache: attention and guidance are off, nothing is left to reuse"
            )

    def plan(self, run: Run) -> Plan:
        """The plan of a run; see `CachePolicy`."""
        if self.guidance and not run.guided:
            raise ValueError("FasterCache: there is no guidance, wanted a scale above 1")
        guided = run.guided and self.guidance is not False
        if self.variant == "diffusers" and not guided:
            raise ValueError(
                "FasterCache: this form reuses attention where the condition runs alone, wanted "
                "guidance"
            )
        both = self._both(run) if guided else np.ones(run.steps, bool)
        parts = [self._guidance_plan(run, both)] if guided else []
        if self.attention:
            masks = self._attention(run, both)
            if not masks:
                raise ValueError("FasterCache: found no attention in the model that can be reused")
            sites = run.sites(*masks)
            computed = np.stack([masks[name] for _, name in sites], axis=1)
            parts.append(reuse_sublayers(run, computed, sites, forecast=self._forecast))
        if not parts:
            raise ValueError("FasterCache: without guidance and attention nothing is left to reuse")
        return together(parts)

    def _call(self, run: Run, published: int) -> int:
        """A published call, counted from 1, in a run of another length."""
        return -(-published * run.steps // PUBLISHED_STEPS)

    def _both(self, run: Run) -> StepFlags:
        """Where both halves run."""
        step = np.arange(run.steps)
        if self.variant == "paper":
            return (step + 1 < self._call(run, GUIDANCE_FROM)) | (
                (step + 1) % self.guidance_every == 0
            )
        return (step % self.guidance_every == 0) | ~_inside(run, self.guidance_window)

    def _guidance_plan(self, run: Run, both: StepFlags) -> Plan:
        if self.variant == "paper":
            early = np.arange(run.steps) + 1 < self._call(run, HIGH_FROM)
            low, high = early, ~early
        else:
            low, high = _inside(run, self.low_window), _inside(run, self.high_window)
        grown = [np.where(band, self.alpha, 1.0).astype(np.float32) for band in (low, high)]
        quirk = self.variant == "paper" and self.attention  # of its own attention cache alone
        guide = DifferenceGuide(first_rows=quirk)
        kinds = Kinds(guide=both.astype(np.int32))
        return Plan(Sockets(guide=guide), kinds, Rows(guide=DifferenceRow(*grown)))

    def _attention(self, run: Run, both: StepFlags) -> Mapping[str, StepFlags]:
        """Where each kind of attention is computed."""
        step = np.arange(run.steps)
        if self.variant == "paper":
            reuse = np.zeros(run.steps, bool)
            whole = (True, True)  # whether the last two values have both halves
            for i in step:
                due = (i + 1) % self.attention_every != 1 % self.attention_every
                late = i + 1 >= self._call(run, ATTENTION_FROM)
                reuse[i] = late and due and (all(whole) or not both[i])
                whole = whole if reuse[i] else (whole[1], bool(both[i]))
            return {name: ~reuse for name in ("attn", "tattn") if name in run.sublayers}
        windows = {"attn": self.spatial_window, "tattn": self.temporal_window}
        return {
            name: both | ~_inside(run, window) | (step % self.attention_every == 0)
            for name, window in windows.items()
            if name in run.sublayers
        }

    def _forecast(self, computed: Computed) -> Forecast:
        """c1 + w (c1 - c0), of the last two values that count."""
        if self.variant == "diffusers":
            return recursive(computed, 1, lambda full, last, since: self._extrapolated(last))
        before = np.cumsum(computed) - computed  # values
        weights = np.zeros((len(computed), 2), np.float32)
        for step, count in enumerate(before):
            if count:
                last = [np.eye(2)[i % 2] for i in range(max(0, count - 2), count)]
                weights[step] = self._extrapolated(last)
        return Forecast(Ring(2), RingRows((before % 2).astype(np.int32), weights))

    def _extrapolated(self, last: list[Weights]) -> Weights:
        return last[-1] + self.weight * (last[-1] - last[0])


def _inside(run: Run, window: Window) -> StepFlags:
    return (window[0] < run.timesteps) & (run.timesteps < window[1])
