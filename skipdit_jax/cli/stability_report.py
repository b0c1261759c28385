"""What `cli.stability` measures of one model, and the numbers and facts it leaves of it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from skipdit_jax.caching import notation
from skipdit_jax.caching.plan import CachePolicy
from skipdit_jax.calibration.cache_errors import CacheErrors, measure_cache_errors
from skipdit_jax.calibration.full_steps import Batch
from skipdit_jax.calibration.search import FullSteps
from skipdit_jax.calibration.similarity import Similarity, deep_stage, measure_similarity
from skipdit_jax.calibration.surfaces import Around, measure_surface, noised
from skipdit_jax.checkpoints.digests import digest
from skipdit_jax.cli.calibration_common import PEAK, sampler_of
from skipdit_jax.cli.job import SamplingJob
from skipdit_jax.evaluation.stability import Spectra, skip_spectra
from skipdit_jax.registry.samples import draws_pixels

Say = Callable[[str], None]


class Asked(NamedTuple):
    """What to measure of each model.

    Attributes:
      policy: of the cache whose error is foretold.
      lists: of computed steps.
      t: indices of the training process where surfaces are taken, int [T].
      coordinates: of the surfaces, [P].
      seed: of directions and noise.
    """

    policy: CachePolicy
    lists: tuple[FullSteps, ...]
    t: Int[np.ndarray, "T"]
    coordinates: Float[np.ndarray, "P"]
    seed: int


class Report(NamedTuple):
    """All that was measured of a model."""

    similarity: Similarity
    around: Around
    spectra: Spectra
    errors: CacheErrors


def measure_report(job: SamplingJob, asked: Asked, batches: Sequence[Batch], say: Say) -> Report:
    """Measures a model on some samples; surfaces on those of the first batch, drawn by itself.

    Args:
      job: the model and how it is sampled.
      asked: what.
      batches: of equal sizes, each (keys [B], what they are conditioned on).
      say: is told what is about to run.
    """
    uncached = job.settings._replace(cache=None).sampler(job.model)
    say("similarity")
    similarity = measure_similarity(uncached, job.params, batches)
    say("cache errors")
    errors = measure_cache_errors(
        uncached,
        lambda policy: sampler_of(job, policy),
        asked.policy,
        job.params,
        batches,
        asked.lists,
    )
    say("surfaces")
    keys, given = batches[0]
    drawn: Any = uncached(job.params, keys, given)
    on = noised(job.model, drawn, given, asked.t, asked.seed)
    around = measure_surface(
        job.model, job.settings.diffusion, job.params, on, asked.coordinates, asked.seed
    )
    return Report(similarity, around, skip_spectra(job.params), errors)


def arrays_of(name: str, report: Report) -> dict[str, np.ndarray]:
    """The numbers of a model as arrays of the .npz file, "MODEL: WHAT"."""
    errors, found = report.errors, dict[str, np.ndarray]()
    for part in ("similarity", "around", "spectra"):
        fields = getattr(report, part)._asdict()
        found |= {f"{part} {field}": np.asarray(values) for field, values in fields.items()}
    found |= {"predicted rms": errors.predicted, "measured rms": errors.measured}
    return {f"{name}: {what}": values for what, values in found.items()}


def facts_of(job: SamplingJob, asked: Asked, report: Report) -> dict[str, Any]:
    """What a model was measured with, and what came out in a few numbers."""
    deep, errors = deep_stage(job.model.num_stages), report.errors
    sampler = job.settings._replace(cache=None).sampler(job.model)
    return {
        "weights": job.source,
        "digest": digest(job.params),
        "stages": job.model.num_stages,
        "skips": job.model.num_skips,
        "sampler": job.settings.method,
        "steps": len(sampler.inputs.t),
        "guidance": float(sampler.guidance.scale),
        "samples": job.count,
        "deep stage": deep,
        "similarity": {
            "cosine, mean of steps, by block": _means(report.similarity.cosine),
            "relative L1, mean of steps, by block": _means(report.similarity.relative),
        },
        "surface": _of_surface(asked, report.around),
        "spectral norms": {
            name: norms.tolist() for name, norms in report.spectra._asdict().items()
        },
        "cache": notation.write(asked.policy),
        "cache errors": _of_errors(job, errors),
        "correlation": errors.correlation,
        "predicted / measured, median": errors.ratio,
    }


def _means(values: Float[np.ndarray, "S U"]) -> list[float | None]:
    """The mean of all steps but the first; None where there is no other."""
    if len(values) == 1:
        return [None] * values.shape[1]
    return [_finite(mean) for mean in values[1:].mean(axis=0)]


def _of_surface(asked: Asked, around: Around) -> list[dict[str, Any]]:
    """Of each timestep: the value at the weights as they are, and the mean of the grid."""
    middle = len(asked.coordinates) // 2
    return [
        {"t": int(t)}
        | {
            name: {
                "middle": _finite(values[middle, middle, number]),
                "mean": _finite(values[..., number].mean()),
            }
            for name, values in around._asdict().items()
        }
        for number, t in enumerate(asked.t)
    ]


def _of_errors(job: SamplingJob, errors: CacheErrors) -> list[dict[str, Any]]:
    rows = zip(errors.lists, errors.predicted, errors.measured, strict=True)
    return [
        {"full": list(full)} | _marks(job, "predicted", foretold) | _marks(job, "measured", found)
        for full, foretold, found in rows
    ]


def _marks(job: SamplingJob, name: str, rms: float) -> dict[str, Any]:
    marks: dict[str, Any] = {f"{name} rms": _finite(rms)}
    if draws_pixels(job.model):
        with np.errstate(divide="ignore"):
            marks[f"{name} PSNR dB"] = _finite(20 * np.log10(PEAK / np.float64(rms)))
    return marks


def _finite(value: Any) -> float | None:
    """A number as JSON has it: NaN and infinity are none there."""
    return float(value) if np.isfinite(value) else None
