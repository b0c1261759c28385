"""--compare: what caches cost in quality and gain in time, from the same noise.

The full run, the caches that were named, or else the method of --cache with its own N and with
N = 2, 3, 4; and uncached runs of fewer steps that cost at most as many FLOPs as these. Times are
medians over interleaved rounds; compilation and a first round are left out. A speedup beyond what
the saved FLOPs allow is noise of the measurement, and marked.

Nearness to the full run is a fair measure under ddim. Under ddpm fewer steps also draw other noise
on the way and end at other pictures, good or bad: then look at the picture.
"""

import statistics
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from skipdit_jax.caching import notation
from skipdit_jax.caching.calibrated import plain, read_cache
from skipdit_jax.caching.plan import CachePolicy
from skipdit_jax.caching.summary import CacheSummary
from skipdit_jax.cli.job import SamplingJob
from skipdit_jax.cli.runner import StepBar, draw_all, make_batch, make_batches
from skipdit_jax.cli.settings import Settings, misfits
from skipdit_jax.evaluation.fidelity import FULL_RANGE, frames_of, psnr, ssim
from skipdit_jax.pipeline import Sampled, Sampler
from skipdit_jax.registry import published_sampling
from skipdit_jax.sampling.arguments import laid_out
from skipdit_jax.sampling.methods import read_method
from skipdit_jax.visualise.grids import enlarge, make_table, to_uint8

INTERVALS = (2, 3, 4)  # N
ROUNDS = 3
NOISE = "~"  # behind a speedup
NOISE_NOTE = (
    f"note     {NOISE} above its ceiling: noise of the measurement, time again on a quiet machine"
)
FEWER = "fewer steps"
NAME_WIDTH = 24  # at least, of a variant in the table
DIGITS = 2  # of a speedup that are shown
COLOURS = 3  # channels that a picture can show
STOCHASTIC_NOTE = (
    "note     fewer steps drew other noise on the way: compare their nearness with --sampler ddim"
)


class Variant(NamedTuple):
    """One way to sample.

    Attributes:
      name: what to call it.
      sampler: the program.
      steps: S.
      ceiling: speedup over the full run that its FLOPs allow.
    """

    name: str
    sampler: Sampler
    steps: int
    ceiling: float


class Score(NamedTuple):
    """What a variant gave.

    Attributes:
      variant: which.
      samples: float32 [n,H,W,C], of clips [n,F,H,W,C].
      seconds: median time of all batches.
      speedup: over the full run, measured.
      psnr: mean over samples, of clips over their frames, dB, to those of the full run.
      ssim: mean over the same.
    """

    variant: Variant
    samples: np.ndarray
    seconds: float
    speedup: float
    psnr: float
    ssim: float

    @property
    def noisy(self) -> bool:
        """Whether it was faster than its FLOPs allow, to the digits that are shown."""
        return round(self.speedup, DIGITS) > round(self.variant.ceiling, DIGITS)

    @property
    def faster(self) -> str:
        """The speedup for people."""
        return f"{self.speedup:.{DIGITS}f}x{NOISE if self.noisy else ''}"


def make_variants(job: SamplingJob, asked: Sequence[str] = ()) -> list[Variant]:
    """The full run first.

    Args:
      job: what to sample.
      asked: the caches that were named.

    Raises:
      ValueError: no notation, or the model cannot follow one of them.
    """
    uncached = job.settings._replace(cache=None)
    full, summary = _summarised(job, uncached)
    variants = [Variant("full", full, summary.steps, 1.0)]
    fewer: list[int] = []  # calls of the network
    for policy in _named(job, asked) if asked else _usual(job):
        settings = job.settings._replace(cache=policy)
        sampler, cached = _summarised(job, settings)
        ceiling, equal = summary.flops / cached.flops, cached.equal_flops_steps
        if cached.open:  # only a run tells what it saves
            ceiling = _as_drawn(job, settings)
            equal = max(1, int(summary.steps / ceiling))
        name = f"{policy.title} {notation.short(sampler.cache or policy)}"
        variants.append(Variant(name, sampler, cached.steps, ceiling))
        fewer.append(equal)
    for calls in dict.fromkeys(fewer):
        steps = max(1, round(calls * full.diffusion.num_steps / summary.steps))
        variants.append(of_steps(job, uncached, steps, summary.flops))
    return variants


def of_steps(job: SamplingJob, settings: Settings, steps: int, flops: float) -> Variant:
    """A run without cache of so many kept steps of the process.

    Args:
      job: what to sample.
      settings: how.
      steps: of the process.
      flops: of the full run.

    Raises:
      ValueError: the model cannot follow them.
    """
    spacing = laid_out(settings.diffusion, steps, settings.steps)
    sampler, own = _summarised(job, settings._replace(cache=None, steps=spacing))
    return Variant(FEWER, sampler, own.steps, flops / own.flops)


def _named(job: SamplingJob, asked: Sequence[str]) -> list[CachePolicy]:
    """The policies of these texts, each once."""
    published = plain(job.settings.cache) or published_sampling(job.model).cache
    found = [read_cache(text, published) for text in asked]
    if None in found:
        raise ValueError(f"--compare {notation.NO_CACHE}: the full run is always among them")
    return list(dict.fromkeys(policy for policy in found if policy is not None))


def _usual(job: SamplingJob) -> list[CachePolicy]:
    """The policy of --cache among its like of the usual N; alone if its method has no N.

    Raises:
      ValueError: there is no cache, and none was published for the model.
    """
    base = plain(job.settings.cache) or published_sampling(job.model).cache
    if base is None:
        raise ValueError("--compare: no caching method was published for the model, see --cache")
    own = getattr(base, "every", None)
    if own is None:
        return [base]
    return [notation.with_fields(base, every=every) for every in sorted({*INTERVALS, own})]


def _summarised(job: SamplingJob, settings: Settings) -> tuple[Sampler, CacheSummary]:
    sampler = settings.sampler(job.model)
    misfits(settings, sampler, job.params)
    return sampler, sampler.summary(job.count)


def _as_drawn(job: SamplingJob, settings: Settings) -> float:
    """The ceiling of a cache that decides, by what the first batch took."""
    sampler, drawn = first_batch(job, settings)
    return sampler.ceiling_of(job.batch, [drawn.kinds])


def first_batch(job: SamplingJob, settings: Settings) -> tuple[Sampler, Sampled]:
    """The first batch with all details."""
    sampler, batch = settings.sampler(job.model, details=True), make_batch(job, 0)
    drawn: Any = sampler(job.params, batch.keys, batch.given, counted=batch.counted)
    return sampler, drawn


def measure(job: SamplingJob, variants: Sequence[Variant], progress: bool = False) -> list[Score]:
    """Runs every variant on the same keys, in turn, ROUNDS times after a first.

    Args:
      job: weights, labels and key.
      variants: of `make_variants`, the reference first.
      progress: show a bar that every run moves on. A callback from inside would spoil the times.
    """
    batches = make_batches(job)
    times: list[list[float]] = [[] for _ in variants]
    bar = StepBar(progress)

    def run(variant: Variant) -> np.ndarray:
        drawn = draw_all(
            lambda batch: variant.sampler(
                job.params, batch.keys, batch.given, counted=batch.counted
            ),
            batches,
        )
        bar.advance()
        return drawn

    with bar.shown((1 + ROUNDS) * len(variants), "runs"):
        samples = [run(variant) for variant in variants]  # compiles
        for _ in range(ROUNDS):
            for seconds, variant in zip(times, variants, strict=True):
                start = time.perf_counter()
                run(variant)
                seconds.append(time.perf_counter() - start)
    medians = [statistics.median(seconds) for seconds in times]
    return score(variants, [job.to_pixels(drawn) for drawn in samples], medians, job.pixels)


def score(
    variants: Sequence[Variant],
    samples: Sequence[np.ndarray],
    seconds: Sequence[float],
    pixels: bool,
) -> list[Score]:
    """Compares samples and times with those of the first variant.

    Pictures have the range [-1, 1]; latents are first divided by `latent_scale`.
    """
    scale = np.float32(1) if pixels else latent_scale(samples[0])
    reference = frames_of(samples[0]) / scale
    return [
        Score(
            variant,
            drawn,
            taken,
            seconds[0] / taken,
            float(np.mean(psnr(frames_of(drawn) / scale, reference, FULL_RANGE))),
            float(np.mean(ssim(frames_of(drawn) / scale, reference, FULL_RANGE))),
        )
        for variant, drawn, taken in zip(variants, samples, seconds, strict=True)
    ]


def latent_scale(latents: np.ndarray) -> np.float32:
    """The largest absolute value: divided by it, latents lie in [-1, 1]. 1 for zeros."""
    return np.float32(np.abs(latents).max() or 1)


def picture(scores: Sequence[Score], titles: Sequence[str], pixels: bool) -> np.ndarray:
    """One labelled picture: a row per variant, a column per sample; uint8 [height,width,C].

    Of clips it shows the frame in the middle. Without an autoencoder latents are shown as they
    are: three channels as red, green and blue.
    """
    rows = _shown(scores, pixels)
    if rows[0].ndim == 5:
        rows = [row[:, row.shape[1] // 2] for row in rows]
    return _labelled(scores, rows, titles)


def movie(scores: Sequence[Score], titles: Sequence[str], pixels: bool) -> np.ndarray:
    """The picture of every frame of clips; uint8 [F,height,width,C]."""
    rows = _shown(scores, pixels)
    frames = range(rows[0].shape[1])
    return np.stack([_labelled(scores, [row[:, f] for row in rows], titles) for f in frames])


def as_bytes(scores: Sequence[Score], pixels: bool) -> list[np.ndarray]:
    """The samples of each as people can look at them, uint8 of 1 or 3 channels; see `picture`."""
    scale = np.float32(1) if pixels else latent_scale(scores[0].samples)
    colours = COLOURS if scores[0].samples.shape[-1] >= COLOURS else 1
    return [to_uint8(score.samples[..., :colours] / scale) for score in scores]


def _shown(scores: Sequence[Score], pixels: bool) -> list[np.ndarray]:
    return [enlarge(samples) for samples in as_bytes(scores, pixels)]


def _labelled(
    scores: Sequence[Score], rows: Sequence[np.ndarray], columns: Sequence[str]
) -> np.ndarray:
    titles = [
        f"{score.variant.name}, {score.variant.steps} steps\n{score.faster} as fast\n"
        f"PSNR {score.psnr:.1f} dB, SSIM {score.ssim:.3f}"
        for score in scores[1:]
    ]
    full = scores[0].variant
    return make_table(rows, [f"{full.name}, {full.steps} steps\nthe reference", *titles], columns)


def table(scores: Sequence[Score], settings: Settings) -> str:
    """The same for a terminal, with a warning where the numbers of fewer steps mislead."""
    width = max(NAME_WIDTH, *(len(row.variant.name) for row in scores))
    lines = [
        f"{'variant':<{width}} {'steps':>5} {'seconds':>8} {'speedup':>8} {'ceiling':>8} "
        f"{'PSNR dB':>8} {'SSIM':>7}"
    ]
    for row in scores:
        lines.append(
            f"{row.variant.name:<{width}} {row.variant.steps:>5} {row.seconds:>8.3f} "
            f"{row.faster:>8} {row.variant.ceiling:>7.2f}x {row.psnr:>8.2f} {row.ssim:>7.4f}"
        )
    if any(row.noisy for row in scores):
        lines.append(NOISE_NOTE)
    if draws_other_noise(settings):
        lines.append(STOCHASTIC_NOTE)
    return "\n".join(lines)


def draws_other_noise(settings: Settings) -> bool:
    """Whether fewer steps draw other noise on the way."""
    return read_method(settings.method).stochastic or settings.eta > 0
