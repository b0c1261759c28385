"""What `cli.calibrate` can measure: for each method what is checked, measured and chosen.

Static methods are here; those that decide in `calibrations_deciding`.
"""

import argparse
import functools
import operator
from collections.abc import Iterable
from typing import Any, NamedTuple

from skipdit_jax.caching import notation
from skipdit_jax.caching.calibrated import plain
from skipdit_jax.caching.plan import CachePolicy, Span
from skipdit_jax.calibration import full_steps, mag, smooth
from skipdit_jax.calibration.drift import Drift
from skipdit_jax.calibration.full_steps import Batch
from skipdit_jax.calibration.thresholds import lowest
from skipdit_jax.cli.calibration_common import (
    Found,
    base_of,
    check_sublayers,
    computed_steps,
    drifts_of,
    mark,
    sampler_of,
    speedup_of,
    wanted_speedup,
)
from skipdit_jax.cli.calibrations_deciding import Ada, Deciding, Tea
from skipdit_jax.cli.job import SamplingJob
from skipdit_jax.pipeline import Sampler

OF_SKIPS, OF_BLOCKS = "N2", "block-cache(every=2)"  # of models with long skips, and without


class FullSteps(NamedTuple):
    """A list of computed steps of a method that reuses one range of stages.

    Attributes:
      job: the samples to measure on.
      places: the policies to choose from, each with its range and how many steps it may compute.
      steps: S.
      objective: see `full_steps.choose_full_steps`.
    """

    job: SamplingJob
    places: list[tuple[CachePolicy, Span, int]]
    steps: int
    objective: str

    @classmethod
    def prepared(cls, job: SamplingJob, options: argparse.Namespace) -> "FullSteps":
        """Of --cache, or of what is usual for the model.

        Raises:
          ValueError: the model cannot follow it, or not for what may be spent.
        """
        usual = OF_SKIPS if job.model.num_skips else OF_BLOCKS
        cached = sampler_of(job, plain(job.settings.cache) or usual)
        assert cached.cache is not None
        if not options.any_branch:
            asked = computed_steps(options, cached.summary(1), cached.summary(1))
            place = (cached.cache, full_steps.span_of(cached), asked)
            return cls(job, [place], len(cached.inputs.t), options.objective)
        if options.full is not None:
            raise ValueError("--any-branch: wanted --speedup, --budget or --like")
        places, told = [], None
        for policy in full_steps.places_of(cached.cache, job.model.num_stages, job.model.num_skips):
            sampler = sampler_of(job, policy)
            try:
                full = computed_steps(options, sampler.summary(1), cached.summary(1))
            except ValueError as error:  # a wide branch may not save as much
                told = error
                continue
            places.append((policy, full_steps.span_of(sampler), full))
        if not places:
            raise told or ValueError("--any-branch: found no branch in the model")
        return cls(job, places, len(cached.inputs.t), options.objective)

    def measure(self, uncached: Sampler, batches: Iterable[Batch]) -> Any:
        """See `Calibration`."""
        spans = [span for _, span, _ in self.places]
        lags = full_steps.lags_for(self.steps, min(full for *_, full in self.places))
        return full_steps.measure(uncached, self.job.params, batches, spans=spans, lags=lags)

    def choose(self, measured: Any) -> tuple[CachePolicy, Found]:
        """See `Calibration`."""
        chosen = [
            (full_steps.choose_full_steps(effects, full, self.objective), policy)
            for effects, (policy, _, full) in zip(measured, self.places, strict=True)
        ]
        choice, policy = min(chosen, key=lambda one: one[0].error)
        foretold = {"foretold": choice.error, "foretold, even": choice.even}
        found = {name: mark(self.job, error) for name, error in foretold.items()}
        return full_steps.with_full_steps(policy, choice.full), found


class Smooth(NamedTuple):
    """Schedules of SmoothCache for the kinds of sub-layers."""

    job: SamplingJob
    speedup: float | None
    error: float | None

    @classmethod
    def prepared(cls, job: SamplingJob, options: argparse.Namespace) -> "Smooth":
        """Of all sub-layers of the model.

        Raises:
          ValueError: it shows none, or something else may be spent than FLOPs.
        """
        check_sublayers(job, options.method)
        if options.full is not None or options.like:
            raise ValueError("--method smooth: wanted --speedup, --budget or --error")
        return cls(job, speedup_of(options), options.error)

    def measure(self, uncached: Sampler, batches: Iterable[Batch]) -> Any:
        """See `Calibration`."""
        drifts = drifts_of(self.job, uncached, batches, lags=smooth.LAGS)
        return functools.reduce(operator.add, drifts)

    def choose(self, measured: Drift) -> tuple[CachePolicy, Found]:
        """See `Calibration`."""
        errors, threshold = smooth.kind_errors(measured), self.error
        if threshold is None:
            assert self.speedup is not None
            threshold = smooth.threshold_for(errors, self._saved, self.speedup)
        policy = smooth.policy_of(smooth.masks(errors, threshold))
        return policy, {"threshold": threshold}

    def _saved(self, masks: smooth.Masks) -> float:
        return sampler_of(self.job, smooth.policy_of(masks)).ceiling


class Mag(NamedTuple):
    """MagCache's ratios, and its threshold for a speedup."""

    job: SamplingJob
    speedup: float

    @classmethod
    def prepared(cls, job: SamplingJob, options: argparse.Namespace) -> "Mag":
        """Of any model; --cache may say how many steps are reused in a row, and from where on.

        Raises:
          ValueError: something else may be spent than FLOPs.
        """
        return cls(job, wanted_speedup(options))

    def measure(self, uncached: Sampler, batches: Iterable[Batch]) -> Any:
        """See `Calibration`."""
        return mag.measure_ratios(uncached, self.job.params, batches)

    def choose(self, measured: mag.Ratios) -> tuple[CachePolicy, Found]:
        """See `Calibration`."""
        ratios = tuple(measured.astype(float).tolist())
        base = base_of(self.job, "mag", f"mag(ratios={ratios!r})")

        def policy_at(threshold: float) -> CachePolicy:
            return notation.with_fields(base, file="", ratios=ratios, threshold=threshold)

        def saved(threshold: float) -> float:
            return sampler_of(self.job, policy_at(threshold)).ceiling

        threshold = lowest(saved, self.speedup, float(len(ratios)))
        return policy_at(threshold), {"threshold": threshold}


METHODS: dict[str, Any] = {
    "full-steps": FullSteps,
    "smooth": Smooth,
    "teacache": Tea,
    "mag": Mag,
    "adacache": Ada,
    "threshold": Deciding,
}
