"""LPIPS of a comparison: shown where its weights are at hand and pictures are large enough."""

from collections.abc import Sequence

import numpy as np

from skipdit_jax.checkpoints.released_metrics import METRIC_WEIGHTS
from skipdit_jax.cli.compare import Score
from skipdit_jax.cli.evaluation_flags import EvaluationOptions, load_extractors
from skipdit_jax.cli.job import SamplingJob
from skipdit_jax.evaluation.extraction import Extractor
from skipdit_jax.evaluation.fidelity import frames_of
from skipdit_jax.evaluation.networks.lpips import LEAST_SIDES
from skipdit_jax.evaluation.scores import LPIPS
from skipdit_jax.visualise.grids import to_uint8


def load_looks(job: SamplingJob, asked: EvaluationOptions) -> Extractor | None:
    """The network, or None where nobody asked for it by --lpips and it cannot be had.

    Args:
      job: what is sampled.
      asked: flags of sample.py.

    Raises:
      ValueError: --lpips was given, and its file cannot be read or the samples not be looked at.
    """
    known, least = METRIC_WEIGHTS[f"lpips-{asked.lpips_net}"], LEAST_SIDES[asked.lpips_net]
    small = not job.pixels or min(job.shape[-3:-1]) < least
    if asked.lpips is None and (small or known.place is None):
        return None
    if small:
        raise ValueError(f"--lpips: wanted pictures with sides of {least} or more, no latents")
    return load_extractors(asked, [LPIPS])[0][LPIPS]


def looks_of(network: Extractor, scores: Sequence[Score]) -> list[float]:
    """LPIPS of the samples of each to those of the first, the mean over samples and frames."""
    reference, *others = (to_uint8(frames_of(score.samples)) for score in scores)
    pairs = (np.stack([samples, reference], axis=1) for samples in (reference, *others))
    return [
        float(np.concatenate([made["value"] for made in network([pair])]).mean()) for pair in pairs
    ]
