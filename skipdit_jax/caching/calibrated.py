"""Policies that were made for one model and one way to sample it, and files of them.

A file is JSON: the policy in the notation, what it was made for, and what the calibration found.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from skipdit_jax.caching import notation
from skipdit_jax.caching.method import decides
from skipdit_jax.caching.plan import CachePolicy, Plan, Run
from skipdit_jax.files import replacing_path

SUFFIX = ".json"
RESAMPLE = ":resample"  # behind the name of a file: take it for other runs too
KIND = "skipdit_jax calibration"
_MORE = {"(", notation.VALUE}  # in a name of a file, it is a setting of a method
DIGITS = 12  # of a digest that a line shows


@dataclass(frozen=True, kw_only=True)
class MadeFor:
    """What a policy was made for.

    Attributes:
      digest: of the weights, `checkpoints.digests.digest`.
      num_stages: U.
      num_skips: K.
      timesteps: [S], as methods see them (`Run`).
      sampler: notation of the method.
      guidance: scale.
    """

    digest: str
    num_stages: int
    num_skips: int
    timesteps: tuple[int, ...]
    sampler: str
    guidance: float


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """A policy that follows no other run than the one it was made for.

    Attributes:
      policy: what is followed.
      made_for: what it was made for.
      source: the file, for people.
      resample: follow other runs too: a list of computed steps is moved to one of another length.
      otherwise: what runs of other steps follow, where this is a recommendation alone.
      found: what the calibration measured and foretold, for people.
    """

    policy: CachePolicy
    made_for: MadeFor
    source: str = ""
    resample: bool = False
    otherwise: CachePolicy | None = None
    found: Mapping[str, Any] = field(default_factory=dict, hash=False, compare=False)

    @property
    def STATIC(self) -> bool:
        """Whether the plan is fixed before the run; see `method.Method`."""
        return not decides(self.policy)

    @property
    def title(self) -> str:
        """What to call the method."""
        return self.policy.title

    def __str__(self) -> str:
        """The file, which `notation` does not read."""
        return self.source or str(self.policy)

    def resolved(self, published: Any) -> "Calibrated":
        """Takes what the policy leaves open as published."""
        return dataclasses.replace(self, policy=self.policy.resolved(published))

    def plan(self, run: Run) -> Plan:
        """The plan of a run; see `CachePolicy`.

        Raises:
          ValueError: it is another model, or other steps.
        """
        made = self.made_for
        if self.otherwise is not None and not self._fits(run.timesteps):
            return self.otherwise.plan(run)
        found, wanted = (run.num_stages, run.num_skips), (made.num_stages, made.num_skips)
        if found != wanted:
            raise ValueError(
                f"{self}: made for {wanted[0]} stages with {wanted[1]} skips, found {found[0]} "
                f"with {found[1]}"
            )
        if self._fits(run.timesteps):
            return self.policy.plan(run)
        if not self.resample:
            raise ValueError(
                f"{self}: made for {_told(made.timesteps)}, found {_told(run.timesteps)}; "
                f"{RESAMPLE} behind its name takes it"
            )
        full = getattr(self.policy, "full", ())
        if not full:
            raise ValueError(f"{self}: {self.title} has no list of computed steps to resample")
        moved = resampled(full, len(made.timesteps), run.steps)
        return notation.with_fields(self.policy, full=moved).plan(run)

    def misfits(
        self, digest: str, sampler: str, guidance: float, timesteps: Any
    ) -> tuple[str, ...]:
        """What a run is that this was not made for, a line each; what only a plan sees is not here.

        Args:
          digest: of the weights.
          sampler: notation of the method.
          guidance: scale.
          timesteps: [S], as methods see them.

        Raises:
          ValueError: there is any, and it is not to be resampled.
        """
        made, lines = self.made_for, []
        if digest != made.digest:
            told, found = (f"{one[:DIGITS]}..." for one in (made.digest, digest))
            lines.append(f"{self}: made for the weights {told}, found {found}")
        if sampler != made.sampler:
            lines.append(f"{self}: made for the sampler {made.sampler}, found {sampler}")
        if guidance != made.guidance:
            lines.append(f"{self}: made for guidance {made.guidance:g}, found {guidance:g}")
        if self.otherwise is not None and not self._fits(timesteps):
            instead = notation.short(self.otherwise)
            return (f"{self}: made for {_told(made.timesteps)}, {instead} is followed instead",)
        if lines and not (self.resample or self.otherwise):
            raise ValueError(f"{lines[0]}; {RESAMPLE} behind its name takes it")
        if not self._fits(timesteps):
            lines.append(f"{self}: {_told(made.timesteps)} resampled to {_told(timesteps)}")
        return tuple(lines)

    def _fits(self, timesteps: Any) -> bool:
        return tuple(np.asarray(timesteps).tolist()) == self.made_for.timesteps

    def save(self, path: str | Path) -> None:
        """Writes the file; it appears whole."""
        made = {
            "kind": KIND,
            "cache": notation.write(self.policy),
            "made for": dataclasses.asdict(self.made_for),
            "found": dict(self.found),
        }
        with replacing_path(path) as new:
            new.write_text(json.dumps(made, indent=1) + "\n")


def plain(policy: CachePolicy | None) -> CachePolicy | None:
    """A policy as if nothing had been calibrated: what stands behind a recommendation, or in it."""
    return (policy.otherwise or policy.policy) if isinstance(policy, Calibrated) else policy


def load_calibrated(path: str | Path, *, resample: bool = False) -> Calibrated:
    """Reads a policy that a calibration has written.

    Args:
      path: of the file.
      resample: see `Calibrated`.

    Raises:
      ValueError: the file is none, in one line.
    """
    try:
        found = json.loads(Path(path).read_text())
        if not isinstance(found, dict) or found.get("kind") != KIND:
            raise ValueError(f"wanted JSON with kind {KIND!r}")
        policy = notation.read(found["cache"])
        if policy is None:
            raise ValueError("found no cache")
        made = found["made for"]
        made_for = MadeFor(**{**made, "timesteps": tuple(made["timesteps"])})
        return Calibrated(
            policy=policy,
            made_for=made_for,
            source=f"{path}{RESAMPLE if resample else ''}",
            resample=resample,
            found=found["found"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        told = f"lacks {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{path}: found no calibrated cache ({told})") from error


def read_cache(text: str, published: CachePolicy | None = None) -> CachePolicy | None:
    """Reads a policy, of a file, maybe with `RESAMPLE` behind it, or of `notation.read`.

    Raises:
      ValueError: it is neither.
    """
    name = text.strip()
    path = name.removesuffix(RESAMPLE)
    if path.endswith(SUFFIX) and not _MORE & set(path):
        return load_calibrated(path, resample=path != name)
    return notation.read(text, published)


def resampled(full: Sequence[int], steps: int, wanted: int) -> tuple[int, ...]:
    """As many computed steps at the same places of a run of another length.

    Args:
      full: computed steps, ascending, the first among them.
      steps: of the run that they were made for.
      wanted: of the other.

    Raises:
      ValueError: the other run has fewer steps than are computed.
    """
    if len(full) > wanted:
        raise ValueError(f"calibration: found {len(full)} computed steps, wanted at most {wanted}")
    places = np.rint(np.array(full) * (wanted - 1) / max(steps - 1, 1)).astype(int)
    for number in range(1, len(places)):  # none falls on the one before,
        places[number] = max(places[number], places[number - 1] + 1)
    for number in range(1, len(places) + 1):  # and all that follow have a place left
        places[-number] = min(places[-number], wanted - number)
    return tuple(places.tolist())


def _told(timesteps: Any) -> str:
    steps = np.asarray(timesteps)
    return f"{len(steps)} steps from {steps[0]} to {steps[-1]}"
