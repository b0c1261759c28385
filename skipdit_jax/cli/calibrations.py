"""What `cli.calibrate` can measure: for each method what is checked, measured and chosen."""

import argparse
import functools
import math
import operator
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import numpy as np

from skipdit_jax.caching.plan import CachePolicy, Span
from skipdit_jax.caching.summary import CacheSummary
from skipdit_jax.calibration import full_steps, smooth, tea
from skipdit_jax.calibration.drift import (
    OUTPUT,
    PROBE,
    Drift,
    measure_drift,
    watching_changes,
)
from skipdit_jax.calibration.full_steps import Batch
from skipdit_jax.cli.job import SamplingJob
from skipdit_jax.pipeline import Sampler
from skipdit_jax.registry.samples import draws_pixels

OF_SKIPS, OF_BLOCKS = "N2", "block-cache(every=2)"  # of models with long skips, and without
PEAK = 2.0  # of pictures in [-1, 1]

Found = dict[str, Any]


class Calibration(Protocol):
    """One method on one job, checked before anything is measured."""

    def measure(self, uncached: Sampler, batches: Iterable[Batch]) -> Any:
        """Runs the samples."""
        ...

    def choose(self, measured: Any) -> tuple[CachePolicy, Found]:
        """The policy, and what was found; raises ValueError where what was asked cannot be."""
        ...


class FullSteps(NamedTuple):
    """A list of computed steps of a method that reuses one range of stages."""

    job: SamplingJob
    policy: CachePolicy
    span: Span
    steps: int
    full: int
    objective: str

    @classmethod
    def prepared(cls, job: SamplingJob, options: argparse.Namespace) -> "FullSteps":
        """Of --cache, or of what is usual for the model.

        Raises:
          ValueError: the model cannot follow it, or not for what may be spent.
        """
        usual = OF_SKIPS if job.model.num_skips else OF_BLOCKS
        cached = sampler_of(job, job.settings.cache or usual)
        assert cached.cache is not None
        span, summary = full_steps.span_of(cached), cached.summary(1)
        full = computed_steps(options, summary)
        return cls(job, cached.cache, span, summary.steps, full, options.objective)

    def measure(self, uncached: Sampler, batches: Iterable[Batch]) -> Any:
        """See `Calibration`."""
        lags = full_steps.lags_for(self.steps, self.full)
        return full_steps.measure(uncached, self.job.params, batches, span=self.span, lags=lags)

    def choose(self, measured: Any) -> tuple[CachePolicy, Found]:
        """See `Calibration`."""
        choice = full_steps.choose_full_steps(measured, self.full, self.objective)
        foretold = {"foretold": choice.error, "foretold, even": choice.even}
        found = {name: mark(self.job, error) for name, error in foretold.items()}
        return full_steps.with_full_steps(self.policy, choice.full), found


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
        parts = [
            measure_drift(uncached, self.job.params, keys, given, lags=smooth.LAGS)
            for keys, given in batches
        ]
        return functools.reduce(operator.add, parts)

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


class Tea(NamedTuple):
    """TeaCache's polynomial, and its threshold for a speedup."""

    job: SamplingJob
    speedup: float

    @classmethod
    def prepared(cls, job: SamplingJob, options: argparse.Namespace) -> "Tea":
        """Of a model that shows its sub-layers.

        Raises:
          ValueError: it does not, or something else may be spent than FLOPs.
        """
        check_sublayers(job, options.method)
        speedup = speedup_of(options)
        if speedup is None:
            raise ValueError("--method teacache: wanted --speedup or --budget")
        return cls(job, speedup)

    def measure(self, uncached: Sampler, batches: Iterable[Batch]) -> list[Drift]:
        """See `Calibration`."""
        return [
            measure_drift(uncached, self.job.params, keys, given, lags=1, watch=watching_changes)
            for keys, given in batches
        ]

    def choose(self, measured: list[Drift]) -> tuple[CachePolicy, Found]:
        """See `Calibration`."""
        fit = tea.fitted([(one.changes(PROBE), one.changes(OUTPUT)) for one in measured])
        foretold = [np.polyval(fit.polynomial, one.changes(PROBE)) for one in measured]
        cost = sampler_of(self.job, "teacache").summary(1)
        threshold = tea.threshold_for(
            foretold, float(cost.full_flops), cost.cached_flops, self.speedup
        )
        found = {"degree": len(fit.polynomial) - 1, "threshold": threshold, "left": fit.left}
        return tea.policy_of(fit.polynomial, threshold), found


METHODS: dict[str, Any] = {"full-steps": FullSteps, "smooth": Smooth, "teacache": Tea}


def check_sublayers(job: SamplingJob, method: str) -> None:
    """Raises ValueError for a model that shows no sub-layers to look at."""
    if not job.model.costs.sublayers:
        raise ValueError(f"--method {method}: found no sub-layers in the model")


def sampler_of(job: SamplingJob, cache: CachePolicy | str) -> Sampler:
    """The sampler of a job with another cache; raises ValueError where the model cannot follow."""
    return Sampler(job.model, **{**job.settings._asdict(), "cache": cache})


def speedup_of(options: argparse.Namespace) -> float | None:
    """How many times fewer FLOPs are wanted; raises ValueError for a budget that is no share."""
    if options.budget is None:
        return options.speedup
    if not 0 < options.budget <= 1:
        raise ValueError(f"--budget {options.budget:g}: wanted a share of 1")
    return 1 / options.budget


def computed_steps(options: argparse.Namespace, summary: CacheSummary) -> int:
    """How many steps may be computed.

    Raises:
      ValueError: more or fewer than there are, or than the method allows.
    """
    if options.error is not None:
        raise ValueError("--error: is of --method smooth, wanted --speedup, --budget or --full")
    if options.full is not None:
        if options.full > summary.steps:
            raise ValueError(f"--full {options.full}: wanted at most {summary.steps}")
        return options.full
    speedup = speedup_of(options)
    if speedup is None:
        return summary.full_steps
    return full_steps.computed_steps(summary, speedup)


def mark(job: SamplingJob, error: float) -> dict[str, float]:
    """A squared distance as people read it: PSNR of pictures, the root mean square of latents."""
    mean = error / math.prod(job.model.sample_shape)
    if draws_pixels(job.model):
        return {"PSNR dB": float(np.inf if mean == 0 else 10 * np.log10(PEAK**2 / mean))}
    return {"rms": math.sqrt(mean)}
