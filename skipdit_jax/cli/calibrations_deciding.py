"""What `cli.calibrate` measures for methods that decide: thresholds, TeaCache's and AdaCache's."""

import argparse
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax

from skipdit_jax.caching import notation
from skipdit_jax.caching.calibrated import plain
from skipdit_jax.caching.method import decides
from skipdit_jax.caching.plan import CachePolicy
from skipdit_jax.calibration import ada, tea
from skipdit_jax.calibration.drift import OUTPUT, PROBE, watching_changes
from skipdit_jax.calibration.full_steps import Batch
from skipdit_jax.calibration.thresholds import by_trial
from skipdit_jax.cli.calibration_common import (
    Found,
    base_of,
    check_sublayers,
    drifts_of,
    sampler_of,
    wanted_speedup,
)
from skipdit_jax.cli.job import SamplingJob
from skipdit_jax.pipeline import Sampler

ONE_OF = 8  # samples is drawn with one threshold after the other: less than two samplings in all


class Deciding(NamedTuple):
    """A method that decides: its threshold for a speedup, found by trial.

    Attributes:
      job: the samples to measure on.
      speedup: by FLOPs, that is wanted.
      base: the method with the settings that stay.
    """

    job: SamplingJob
    speedup: float
    base: CachePolicy

    @classmethod
    def prepared(cls, job: SamplingJob, options: argparse.Namespace) -> "Deciding":
        """Of --cache.

        Raises:
          ValueError: it has no threshold to decide by, or something else may be spent than FLOPs.
        """
        speedup, base = wanted_speedup(options), plain(job.settings.cache)
        if base is None or not decides(base) or not hasattr(base, "threshold"):
            raise ValueError("--method threshold: wanted --cache first-block or its like")
        sampler_of(job, base)
        return cls(job, speedup, base)

    def measure(self, uncached: Sampler, batches: Iterable[Batch]) -> Batch:
        """See `Calibration`."""
        return next(iter(batches))

    def choose(self, measured: Batch) -> tuple[CachePolicy, Found]:
        """See `Calibration`."""
        return self.tried(measured, lambda value: notation.with_fields(self.base, threshold=value))

    def tried(
        self, batch: Batch, policy_at: Callable[[float], CachePolicy]
    ) -> tuple[CachePolicy, Found]:
        """The policy of the lowest number that saves as much as is wanted."""
        few = max(1, self.job.count // ONE_OF)
        keys, given = (jax.tree.map(lambda leaf: leaf[:few], part) for part in batch)
        settings = self.job.settings

        def sampler_at(threshold: float) -> Sampler:
            cached = settings._replace(cache=policy_at(threshold))
            return cached.sampler(self.job.model, details=True)

        threshold, saved = by_trial(sampler_at, self.job.params, keys, given, self.speedup)
        return policy_at(threshold), {"threshold": threshold, "ceiling": saved}


class Tea(Deciding):
    """TeaCache's polynomial, and its threshold for a speedup."""

    @classmethod
    def prepared(cls, job: SamplingJob, options: argparse.Namespace) -> "Tea":
        """Of a model that shows its sub-layers.

        Raises:
          ValueError: it does not, or something else may be spent than FLOPs.
        """
        check_sublayers(job, options.method)
        return cls(job, wanted_speedup(options), base_of(job, "teacache"))

    def measure(self, uncached: Sampler, batches: Iterable[Batch]) -> Any:
        """See `Calibration`."""
        kept = list(batches)
        return kept[0], drifts_of(self.job, uncached, kept, lags=1, watch=watching_changes)

    def choose(self, measured: Any) -> tuple[CachePolicy, Found]:
        """See `Calibration`."""
        batch, drifts = measured
        fit = tea.fitted([(one.changes(PROBE), one.changes(OUTPUT)) for one in drifts])
        fields = {"polynomial": fit.polynomial}

        def policy_at(threshold: float) -> CachePolicy:
            return notation.with_fields(self.base, **fields, threshold=threshold)

        policy, found = self.tried(batch, policy_at)
        return policy, {"degree": len(fit.polynomial) - 1, "left": fit.left, **found}


class Ada(Deciding):
    """AdaCache's codebook for a speedup."""

    @classmethod
    def prepared(cls, job: SamplingJob, options: argparse.Namespace) -> "Ada":
        """Of a model that shows its sub-layers.

        Raises:
          ValueError: it does not, or has too few steps, or something else may be spent than FLOPs.
        """
        base = base_of(job, "adacache")
        steps = len(sampler_of(job, base).inputs.t)
        if steps <= ada.FASTEST + 1:
            raise ValueError(f"--method adacache: found {steps} steps, wanted {ada.FASTEST + 2}")
        return cls(job, wanted_speedup(options), base)

    def measure(self, uncached: Sampler, batches: Iterable[Batch]) -> Any:
        """See `Calibration`."""
        kept, plan = list(batches), sampler_of(self.job, self.base).plan
        assert plan is not None
        assert plan.sockets.decision is not None
        watch = ada.Looking(plan.sockets.decision.probe)
        return kept[0], drifts_of(self.job, uncached, kept, lags=ada.FASTEST - 1, watch=watch)

    def choose(self, measured: Any) -> tuple[CachePolicy, Found]:
        """See `Calibration`."""
        batch, drifts = measured

        def policy_at(limit: float) -> CachePolicy:
            codebook = ada.codebook(*ada.pairs_of(drifts, limit))
            return notation.with_fields(self.base, codebook=codebook)

        return self.tried(batch, policy_at)
