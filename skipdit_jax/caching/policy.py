"""Policies: frozen settings that turn the timesteps of a run into a plan, on the host.

Skip-Cache (arXiv 2411.17616). On timesteps tau[0..S-1] in sampling order, step i reuses the deep
part if

    (1)  i mod N != 0   and   tau[i] < start   and   (i == 0 or tau[i-1] > stop)

The original keeps a counter inside the model; (1) is that counter written as a function. Step i is
therefore counted from the first call, forced full steps included, and the first step at or below
`stop` may still be a cached one: it is the step BEFORE it that closes the cache.
"""

import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from skipdit_jax.typing import Plan, StepFlags, Trunk

ALWAYS = 1000  # `start` above every timestep of the 1000-step schedules: never forced full
NEVER = -1  # `stop` below every timestep: never closed
PUBLISHED_STOP = 20  # of class to image: docs/notes.md, Skip-Cache as published
NARROWEST = 1  # the branch that saves most

_NOTATION = re.compile(r"N?(?P<every>\d+)(-(?P<start>\d+)-(?P<stop>\d+))?")


def interval_reuse(timesteps: Int[np.ndarray, "S"], every: int, start: int, stop: int) -> StepFlags:
    """Equation (1): True where a step takes the deep part from the cache. Entry 0 is False."""
    tau = np.asarray(timesteps)
    before = np.concatenate([[np.iinfo(np.int64).max], tau[:-1]])
    return (np.arange(len(tau)) % every != 0) & (tau < start) & (before > stop)


def _check_interval(name: str, every: int, start: int, stop: int) -> None:
    if every < 1:
        raise ValueError(f"{name}: N is {every}, wanted 1 or more (1 computes every step)")
    if stop >= start:
        raise ValueError(f"{name}: stop is {stop}, wanted less than start, which is {start}")


@dataclass(frozen=True, kw_only=True)
class SkipCache:
    """Skip-Cache: of every N steps one runs the whole network, the others only its ends.

    Attributes:
      every: N. 1 computes every step.
      branch: k, the number of stages at each end that always run.
      start: steps at timesteps >= start are computed in full (1000: none is forced).
      stop: after the first step at or below this timestep all are computed in full (-1: never).

    What is None is, when a model is sampled, as published for its family (`like`).
    """

    every: int
    branch: int | None = None
    start: int | None = None
    stop: int | None = None

    def __post_init__(self):
        """Raises ValueError for settings that mean nothing."""
        _check_interval("SkipCache", self.every, *self._interval())
        if self.branch is not None and self.branch < 1:
            raise ValueError(f"SkipCache: branch is {self.branch}, wanted 1 or more")

    def plan(self, timesteps: Int[np.ndarray, "S"]) -> Plan:
        """The plan for model timesteps in sampling order; see `CachePolicy`.

        Examples:
          >>> import numpy as np
          >>> SkipCache(every=3).plan(np.array([900, 700, 500, 300])).reuse
          array([False,  True,  True, False])
        """
        reuse = interval_reuse(timesteps, self.every, *self._interval())
        width = self.branch or NARROWEST
        return Plan(reuse, Trunk(front=width, back=width))

    def _interval(self) -> tuple[int, int]:
        return (
            ALWAYS if self.start is None else self.start,
            PUBLISHED_STOP if self.stop is None else self.stop,
        )

    def like(self, published: "SkipCache") -> "SkipCache":
        """Takes what is None from another policy: start and stop together, and branch."""
        open_ended = self.start is None and self.stop is None
        start, stop = published._interval() if open_ended else self._interval()
        branch = published.branch if self.branch is None else self.branch
        return SkipCache(every=self.every, branch=branch, start=start, stop=stop)

    @classmethod
    def parse(cls, text: str, default: "SkipCache | None" = None) -> "SkipCache":
        """Reads "N3-1000-20" (N, start, stop) or "N3", where start and stop are the default's.

        Raises:
          ValueError: for anything else, and for N = 0 or stop >= start.

        Examples:
          >>> SkipCache.parse("N3-1000-20")
          SkipCache(every=3, branch=None, start=1000, stop=20)
        """
        default = default or cls(every=1)
        match = _NOTATION.fullmatch(text.strip())
        if not match:
            raise ValueError(
                f"cache {text!r}: wanted N-start-stop such as N3-1000-20, or N3, or none"
            )
        start, stop = default.start, default.stop
        if match["start"] is not None:
            start, stop = int(match["start"]), int(match["stop"])
        return cls(every=int(match["every"]), branch=default.branch, start=start, stop=stop)

    def __str__(self):
        """The notation that `parse` reads."""
        if self.start is None and self.stop is None:
            return f"N{self.every}"
        start, stop = self._interval()
        return f"N{self.every}-{start}-{stop}"


@dataclass(frozen=True, kw_only=True)
class BlockCache:
    """Reuses what the middle of a plain model added to its input (Delta-DiT, arXiv 2406.01125).

    The baseline for models without skips: the residual of blocks [front, U - back) is kept from the
    last full step.

    Attributes:
      every: N. 1 computes every step.
      front: stages that always run before the cached range.
      back: stages that always run after it.
      start: as in `SkipCache`.
      stop: as in `SkipCache`.
    """

    every: int
    front: int = 1
    back: int = 1
    start: int = ALWAYS
    stop: int = NEVER

    def __post_init__(self):
        """Raises ValueError for settings that mean nothing."""
        _check_interval("BlockCache", self.every, self.start, self.stop)
        if min(self.front, self.back) < 0:
            raise ValueError(f"BlockCache: front {self.front} and back {self.back} must be >= 0")

    def plan(self, timesteps: Int[np.ndarray, "S"]) -> Plan:
        """The plan for model timesteps in sampling order; see `CachePolicy`."""
        reuse = interval_reuse(timesteps, self.every, self.start, self.stop)
        return Plan(reuse, Trunk(front=self.front, back=self.back, residual=True))
