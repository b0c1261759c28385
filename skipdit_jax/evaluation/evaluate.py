"""One evaluation: features of both sets, gathered once, and every number that was asked for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from skipdit_jax.evaluation.extraction import Extractor
from skipdit_jax.evaluation.fidelity import frames_of, psnr, ssim
from skipdit_jax.evaluation.gathering import Features, forget, gather
from skipdit_jax.evaluation.moments import fit_gaussian
from skipdit_jax.evaluation.networks.i3d import FEWEST_FRAMES
from skipdit_jax.evaluation.references import ReferenceStatistics, kept_reference
from skipdit_jax.evaluation.scores import (
    I3D,
    INCEPTION,
    LOGITS,
    LPIPS,
    METRICS,
    POOL,
    SPATIAL,
    WIDTHS,
    Choices,
    Measured,
    Score,
    check_names,
    fewest_samples,
    networks_of,
    score_of_pairs,
    scores_of,
)
from skipdit_jax.evaluation.sets import SampleSet

PAIRS = 64  # of pictures, or of frames, held against each other at a time, on the host
LEVELS = 127.5  # half of the range of 8 bits
PIXELS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {"psnr": psnr, "ssim": ssim}
Tell = Callable[[str, int, int], None]
"""(what is worked on, samples done, of how many)."""


class Reference(NamedTuple):
    """What samples are held against.

    Attributes:
      samples: real ones, or those of another run; None where statistics are all there is.
      statistics: as published; taken in place of the samples' own where there are both.
    """

    samples: SampleSet | None = None
    statistics: ReferenceStatistics | None = None


def check_possible(
    names: Sequence[str],
    samples: SampleSet,
    reference: Reference,
    choices: Choices | None = None,
) -> None:
    """Makes sure that all numbers can be had, before anything is computed.

    Raises:
      ValueError: one cannot; the text says why.
    """
    check_names(names)
    for name in names:
        if METRICS[name].reference:
            _check_reference(name, samples, reference)
    for network in networks_of(names):
        for one in (samples, reference.samples):
            _check_shape(network, one)
    for name in names:
        _check_count(name, samples, reference, choices or Choices())


def _check_reference(name: str, samples: SampleSet, reference: Reference) -> None:
    metric, real, known = METRICS[name], reference.samples, reference.statistics
    if real is None and known is None:
        raise ValueError(f"{name}: found no reference, wanted one")
    if real is None:
        if metric.features or metric.pairs:
            raise ValueError(f"{name}: found statistics of a reference, wanted its samples")
        if _lacks(name, known):
            raise ValueError(
                f"{name}: found a reference without mu_s and sigma_s, wanted these statistics of "
                "spatial features, or samples"
            )
    elif metric.pairs and (len(samples), samples.shape) != (len(real), real.shape):
        raise ValueError(
            f"{name}: found {len(samples)} samples of {_size(samples)} and {len(real)} of "
            f"{_size(real)}, wanted as many of one size"
        )


def check_widths(names: Sequence[str], reference: Reference) -> None:
    """Makes sure that published statistics are of features of the published networks.

    Raises:
      ValueError: they are of others.
    """
    known = reference.statistics
    if known is None:
        return
    for name in names:
        metric = METRICS[name]
        taken = known.spatial if metric.feature == SPATIAL else known.pooled
        wanted = WIDTHS.get((metric.network, metric.feature))
        if taken is not None and wanted is not None and len(taken.mean) != wanted:
            raise ValueError(
                f"{name}: found statistics of {len(taken.mean)} features, wanted {wanted} of "
                f"{metric.network}"
            )


def _check_count(name: str, samples: SampleSet, reference: Reference, choices: Choices) -> None:
    metric, fewest, sets = METRICS[name], fewest_samples(name, choices), [samples]
    if metric.reference and reference.samples is not None:
        known = reference.statistics
        taken = known is not None and not metric.features and not _lacks(name, known)
        sets += [] if taken else [reference.samples]
    for one in sets:
        if len(one) < fewest:
            found = f"found {len(one)} samples in {one.name}"
            raise ValueError(f"{name}: {found}, wanted {fewest} or more")


def _lacks(name: str, known: ReferenceStatistics | None) -> bool:
    """Whether statistics are not those that a metric takes."""
    return known is not None and METRICS[name].feature == SPATIAL and known.spatial is None


def _size(samples: SampleSet) -> str:
    return "x".join(map(str, samples.shape))


def _check_shape(network: str, samples: SampleSet | None) -> None:
    if samples is None or network == LPIPS:
        return
    clips = len(samples.shape) == 4
    if clips != (network == I3D):
        wanted = "clips" if network == I3D else "pictures"
        raise ValueError(f"{samples.name}: found samples of {_size(samples)}, wanted {wanted}")
    if clips and samples.shape[0] < FEWEST_FRAMES:
        raise ValueError(
            f"{samples.name}: found clips of {samples.shape[0]} frames, wanted {FEWEST_FRAMES} or "
            "more for FVD"
        )


def evaluate(
    samples: SampleSet,
    reference: Reference,
    names: Sequence[str],
    extractors: Mapping[str, Extractor],
    choices: Choices | None = None,
    keep: Path | None = None,
    tell: Tell | None = None,
) -> list[Score]:
    """Every number asked for, in the order of the names.

    Args:
      samples: to evaluate.
      reference: what they are held against.
      names: keys of `METRICS`.
      extractors: of the networks that they need, by name.
      choices: what else fixes the numbers.
      keep: folder for features, so that a stopped evaluation goes on, and for statistics of
        references; None keeps nothing.
      tell: called as features are gathered.

    Raises:
      ValueError: see `check_possible`; or a sample cannot be read.
    """
    choices = choices or Choices()
    check_possible(names, samples, reference, choices)
    gathering = _Gathering(extractors, keep, tell)
    alone = [name for name in names if not METRICS[name].pairs]
    networks = networks_of(alone)
    ours = {network: gathering.features(samples, network) for network in networks}
    held = [name for name in alone if METRICS[name].reference]
    real, known = gathering.reference(reference, held)
    measured = Measured(ours, real, known)
    found: list[Score] = []
    for name in names:
        if METRICS[name].pairs:
            assert reference.samples is not None, "checked"
            values = _of_pairs(name, samples, reference.samples, extractors)
            found.append(score_of_pairs(name, values, choices))
        else:
            found += scores_of(name, measured, choices)
    gathering.finish()
    return found


class _Gathering:
    """Features of sets, and where they are kept until all numbers are there."""

    def __init__(
        self, extractors: Mapping[str, Extractor], keep: Path | None, tell: Tell | None
    ) -> None:
        self._extractors, self._keep, self._tell = extractors, keep, tell
        self._folders: list[Path] = []
        self._found: dict[tuple[str, str], Features] = {}

    def features(self, samples: SampleSet, network: str) -> Features:
        known = samples.fingerprint, network  # one set may be held against itself
        if known not in self._found:
            self._found[known] = self._gathered(samples, network)
        return self._found[known]

    def _gathered(self, samples: SampleSet, network: str) -> Features:
        extractor, tell, folder = self._extractors[network], self._tell, None
        if self._keep is not None:
            folder = self._keep / f"{samples.fingerprint}-{extractor.identity}"
            self._folders.append(folder)
        what = f"{network} of {samples.name}"
        count = len(samples)
        return gather(samples, extractor, folder, tell and (lambda done: tell(what, done, count)))

    def reference(
        self, reference: Reference, names: Sequence[str]
    ) -> tuple[dict[str, Features], ReferenceStatistics | None]:
        """Features, where metrics want them; statistics, where these are known or kept."""
        found: dict[str, Features] = {}
        known, held = reference.statistics, reference.samples
        for network in networks_of(names):
            if held is None:
                continue
            if any(METRICS[name].features or _lacks(name, known) for name in names):
                found[network] = self.features(held, network)
            elif known is None and self._keep is not None:
                known = self._statistics(held, network)
            elif known is None:
                found[network] = self.features(held, network)
        return found, known

    def _statistics(self, held: SampleSet, network: str) -> ReferenceStatistics:
        made_of = {"set": held.fingerprint, "network": self._extractors[network].identity}

        def make() -> ReferenceStatistics:
            found = self.features(held, network)
            pooled = fit_gaussian(found[POOL if network == INCEPTION else LOGITS])
            spatial = fit_gaussian(found[SPATIAL]) if SPATIAL in found else None
            return ReferenceStatistics(pooled, spatial, made_of)

        assert self._keep is not None, "there is a folder"
        return kept_reference(made_of, make, self._keep / "statistics")

    def finish(self) -> None:
        """Removes what was kept for a stopped evaluation."""
        for folder in self._folders:
            forget(folder)


def _of_pairs(
    name: str, first: SampleSet, second: SampleSet, extractors: Mapping[str, Extractor]
) -> np.ndarray:
    """One value for each picture, or the mean over the frames of each clip, float64 [N]."""
    frames = (tuple(map(frames_of, pair)) for pair in _pairs(first, second))
    if name == LPIPS:
        stacked = (np.stack(pair, axis=1) for pair in frames)
        parts = [made["value"] for made in extractors[LPIPS](stacked)]
    else:
        parts = [PIXELS[name](*(x / LEVELS - 1 for x in pair)) for pair in frames]
    return np.concatenate(parts).astype(np.float64).reshape(len(first), -1).mean(axis=1)


def _pairs(first: SampleSet, second: SampleSet) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    frames = 1 if len(first.shape) == 3 else first.shape[0]
    size = max(PAIRS // frames, 1)
    return zip(first.chunks(0, size), second.chunks(0, size), strict=True)
