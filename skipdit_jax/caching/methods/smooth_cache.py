"""SmoothCache (arXiv 2411.10510) and learning-to-cache (2406.01733): schedules that come as files.

Each kind of sub-layer, or each one, has a list of which steps compute it; a calibration or a
training made them (JSON of the authors: {"attn": [1, 0, ...], "mlp": [...]}, or "attn-3" for the
third layer alone).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float

from skipdit_jax.caching.method import Method
from skipdit_jax.caching.plan import Plan, Run
from skipdit_jax.caching.planning import reuse_sublayers
from skipdit_jax.files import replacing_path

Schedule = Mapping[str, Sequence[int]]
"""Name of a sub-layer, or NAME-STAGE -> for each step 1 if it is computed, 0 if reused."""


@dataclass(frozen=True, kw_only=True)
class SmoothCache(Method):
    """Reuses each sub-layer when its list says so.

    The list of NAME-STAGE goes before that of NAME; without either, or behind a list's end, a
    sub-layer is computed. A reuse before anything was computed is computed.

    Attributes:
      file: JSON of a schedule; or
      masks: the schedule itself, ((name, (1, 0, ...)), ...), see `of`.
    """

    NAME: ClassVar[str] = "smooth"
    PAPER: ClassVar[str] = "arXiv 2411.10510, 2406.01733"
    title: ClassVar[str] = "SmoothCache"

    file: str = ""
    masks: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def __post_init__(self):
        """Raises ValueError for a schedule that is none."""
        if bool(self.file) == bool(self.masks):
            raise ValueError("SmoothCache: wanted a file or masks, one of them")
        for name, steps in self.masks:
            if not steps or not set(steps) <= {0, 1}:
                raise ValueError(f"SmoothCache: found {name!r} of other than 0 and 1")

    @classmethod
    def of(cls, schedule: Schedule) -> "SmoothCache":
        """The policy of a schedule as the authors write it."""
        pairs = sorted((str(name), tuple(map(int, steps))) for name, steps in schedule.items())
        return cls(masks=tuple(pairs))

    def save(self, path: str | Path) -> None:
        """Writes the schedule as JSON, as the authors' code reads it."""
        with replacing_path(path) as new:
            new.write_text(json.dumps({name: list(steps) for name, steps in self._masks()}))

    def plan(self, run: Run) -> Plan:
        """The plan of a run; see `CachePolicy`."""
        lists = dict(self._masks())
        sites = [s for s in run.sites() if s[1] in lists or f"{s[1]}-{s[0]}" in lists]
        if not sites:
            raise ValueError(
                f"SmoothCache: found lists of {', '.join(lists)}, wanted some of "
                f"{', '.join(run.sublayers) or 'a model with sub-layers'}"
            )
        computed = np.ones((run.steps, len(sites)), bool)
        for column, (stage, name) in enumerate(sites):
            steps = lists.get(f"{name}-{stage}", lists.get(name, ()))[: run.steps]
            computed[: len(steps), column] = np.array(steps, bool)
        computed[0] = True
        return reuse_sublayers(run, computed, sites)

    def _masks(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        return self.of(read_schedule(self.file)).masks if self.file else self.masks


def read_schedule(path: str | Path) -> Schedule:
    """Reads the JSON of a schedule.

    Raises:
      ValueError: the file is none.
    """
    try:
        found = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: found no schedule ({error}), wanted JSON") from error
    if not isinstance(found, dict) or not found or not all(map(_is_mask, found.values())):
        raise ValueError(f'{path}: wanted JSON like {{"attn": [1, 0, 1], "mlp": [1, 0, 1]}}')
    return found


def _is_mask(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(step in (0, 1) for step in value)


def learned_masks(
    router: Float[np.ndarray, "S sublayers"],
    threshold: float = 0.5,
    names: Sequence[str] = ("attn", "mlp"),
) -> dict[str, list[int]]:
    """The schedule of a trained router of learning-to-cache, as `SmoothCache.of` takes it.

    Steps are counted from the end, s = S-1 .. 0, and come in pairs (s odd, s - 1): all is computed
    at odd s; at even s a sub-layer is computed if sigmoid(router) > threshold.

    Args:
      router: [S, stages x names], row s; sub-layers of a stage side by side.
      threshold: above it a sub-layer is computed.
      names: of the sub-layers of a stage.

    Raises:
      ValueError: S is odd.
    """
    steps = len(router)
    if steps % 2:
        raise ValueError(f"learned masks: found {steps} steps, wanted an even number")
    chance: Bool[np.ndarray, "S sublayers"] = (
        1 / (1 + np.exp(-router.astype(np.float64))) > threshold
    )
    computed = (chance | (np.arange(steps) % 2 == 1)[:, None])[::-1]
    return {
        f"{name}-{stage}": computed[:, stage * len(names) + number].astype(int).tolist()
        for stage in range(router.shape[1] // len(names))
        for number, name in enumerate(names)
    }
