"""What all calibrations of `cli.calibrate` share: what may be spent, samplers, marks."""

import argparse
import math
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

from skipdit_jax.caching import notation
from skipdit_jax.caching.calibrated import plain
from skipdit_jax.caching.plan import CachePolicy
from skipdit_jax.caching.summary import CacheSummary
from skipdit_jax.calibration import full_steps
from skipdit_jax.calibration.drift import Drift, measure_drift
from skipdit_jax.calibration.full_steps import Batch
from skipdit_jax.cli.job import SamplingJob
from skipdit_jax.pipeline import Sampler
from skipdit_jax.registry.samples import draws_pixels

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


def base_of(job: SamplingJob, name: str, text: str = "") -> CachePolicy:
    """The policy of --cache if it is of this method, else a usual one; its other settings stay."""
    usual, typed = notation.read(text or name), plain(job.settings.cache)
    assert usual is not None
    return typed if type(typed) is type(usual) else usual


def drifts_of(
    job: SamplingJob, uncached: Sampler, batches: Iterable[Batch], **what: Any
) -> list[Drift]:
    """The drift of each batch; see `drift.measure_drift`."""
    return [measure_drift(uncached, job.params, keys, given, **what) for keys, given in batches]


def wanted_speedup(options: argparse.Namespace) -> float:
    """How many times fewer FLOPs are wanted; raises ValueError if something else is said."""
    speedup = speedup_of(options)
    if speedup is None:
        raise ValueError(f"--method {options.method}: wanted --speedup or --budget")
    return speedup


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


def computed_steps(options: argparse.Namespace, summary: CacheSummary, typed: CacheSummary) -> int:
    """How many steps may be computed.

    Args:
      options: what may be spent.
      summary: of the policy that computes them.
      typed: of --cache, whose FLOPs --like means.

    Raises:
      ValueError: more or fewer than there are, or than the method allows.
    """
    if options.error is not None:
        raise ValueError("--error: is of --method smooth, wanted --speedup, --budget or --full")
    if options.full is not None:
        if options.full > summary.steps:
            raise ValueError(f"--full {options.full}: wanted at most {summary.steps}")
        return options.full
    speedup = typed.ceiling if options.like else speedup_of(options)
    assert speedup is not None
    return full_steps.computed_steps(summary, speedup)


def mark(job: SamplingJob, error: float) -> dict[str, float]:
    """A squared distance as people read it: PSNR of pictures, the root mean square of latents."""
    mean = error / math.prod(job.model.sample_shape)
    if draws_pixels(job.model):
        return {"PSNR dB": float(np.inf if mean == 0 else 10 * np.log10(PEAK**2 / mean))}
    return {"rms": math.sqrt(mean)}
