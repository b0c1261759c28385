"""From sets of samples to the numbers that papers report, with all that fixes them.

What a network makes of a set is gathered once for all metrics that want it. Metrics that hold
samples against a reference take its features, or its published statistics where these are enough;
those of pairs hold sample i of one set against sample i of the other.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from skipdit_jax.evaluation.distances import frechet_between, frechet_to
from skipdit_jax.evaluation.gathering import Features
from skipdit_jax.evaluation.inception_score import inception_score
from skipdit_jax.evaluation.intervals import resampled
from skipdit_jax.evaluation.kernel_distance import kernel_distance
from skipdit_jax.evaluation.manifolds import precision_recall
from skipdit_jax.evaluation.moments import FEWEST, FeatureStatistics, fit_gaussian
from skipdit_jax.evaluation.references import ReferenceStatistics

INCEPTION, I3D, LPIPS = "inception", "i3d", "lpips"
POOL, SPATIAL, LOGITS = "pool", "spatial", "logits"
"""Features of InceptionV3; those of I3D are LOGITS."""


WIDTHS = {(INCEPTION, POOL): 2048, (INCEPTION, SPATIAL): 2023, (I3D, LOGITS): 400}
"""(network, feature) -> its width, of what published statistics must be of."""


class Metric(NamedTuple):
    """What a number is made of.

    Attributes:
      title: as tables call it.
      unit: of the number, "" for none.
      better: "lower" or "higher".
      network: whose features it takes; "" for pixels.
      feature: which of them.
      pairs: whether it holds sample i against sample i.
      reference: whether it needs a reference.
      features: whether it needs the features of the reference, not just their statistics.
    """

    title: str
    unit: str
    better: str
    network: str
    feature: str = ""
    pairs: bool = False
    reference: bool = True
    features: bool = False


METRICS = {
    "fid": Metric("FID", "", "lower", INCEPTION, POOL),
    "sfid": Metric("sFID", "", "lower", INCEPTION, SPATIAL),
    "is": Metric("Inception score", "", "higher", INCEPTION, LOGITS, reference=False),
    "pr": Metric("precision, recall", "", "higher", INCEPTION, POOL, features=True),
    "kid": Metric("KID", "", "lower", INCEPTION, POOL, features=True),
    "fvd": Metric("FVD", "", "lower", I3D, LOGITS),
    "lpips": Metric("LPIPS", "", "lower", LPIPS, pairs=True),
    "psnr": Metric("PSNR", "dB", "higher", "", pairs=True),
    "ssim": Metric("SSIM", "", "higher", "", pairs=True),
}
"""By the name that commands take."""


class Score(NamedTuple):
    """A number.

    Attributes:
      metric: its name: a key of `METRICS`, or "precision" and "recall".
      value: the number.
      low: end of its interval; None where none was asked for, or makes sense.
      high: the other end.
      spread: standard deviation over splits, subsets or samples; None where there is none.
      better: "lower" or "higher".
    """

    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    spread: float | None = None
    better: str = "lower"


@dataclasses.dataclass(frozen=True)
class Choices:
    """What else fixes the numbers.

    Attributes:
      resamples: of intervals of Fréchet distances, each as costly as the distance; 0 for none.
      seed: of resampling and of the subsets of KID.
      subsets: of KID.
      subset_size: of KID; less where a set has fewer samples.
      neighbours: of precision and recall.
      half: whether precision and recall are rounded as those of ADM's evaluator are.
      parts: of the Inception score; None: parts of 5,000, as ADM has them.
    """

    resamples: int = 0
    seed: int = 0
    subsets: int = 100
    subset_size: int = 1000
    neighbours: int = 3
    half: bool = False
    parts: int | None = None

    def __post_init__(self) -> None:
        for name, least in {
            "resamples": 0,
            "subsets": 1,
            "subset_size": 2,
            "neighbours": 1,
        }.items():
            if (value := getattr(self, name)) < least:
                raise ValueError(f"evaluation: found {name} {value}, wanted {least} or more")
        if self.resamples == 1:
            raise ValueError("evaluation: found 1 resample, wanted 0, or 2 or more")


class Measured(NamedTuple):
    """What is known of the two sets, by the network that gave it.

    Attributes:
      samples: features of the samples.
      reference: features of the reference; none where statistics are all there is.
      statistics: published statistics of the reference, if that is what was given.
    """

    samples: Mapping[str, Features]
    reference: Mapping[str, Features]
    statistics: ReferenceStatistics | None = None


def scores_of(name: str, measured: Measured, choices: Choices) -> list[Score]:
    """The numbers of a metric of features.

    Args:
      name: key of `METRICS`, of one without pairs.
      measured: features of both sets.
      choices: what else fixes them.

    Raises:
      ValueError: too few samples, or no features or statistics of the reference.
    """
    return _SCORES[name](name, METRICS[name], measured, choices)


def score_of_pairs(name: str, values: np.ndarray, choices: Choices) -> Score:
    """The mean over pairs [N], with the interval of the mean.

    Identical pairs have an infinite PSNR: so has their mean.
    """
    metric, mean = METRICS[name], float(np.mean(values))
    spread = float(np.std(values)) if np.isfinite(mean) else None
    if spread is None or len(values) < 2:
        return Score(name, mean, spread=spread, better=metric.better)
    found = resampled(_mean, values, seed=choices.seed)
    return Score(name, mean, found.low, found.high, spread, metric.better)


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values))


def _frechet(name: str, metric: Metric, measured: Measured, choices: Choices) -> list[Score]:
    real = _statistics(name, metric, measured)
    features = measured.samples[metric.network][metric.feature]
    value = frechet_between(fit_gaussian(features), real)
    if not choices.resamples:
        return [Score(name, value)]
    distance = frechet_to(real)
    low, high, spread = resampled(
        lambda of: distance(fit_gaussian(of)), features, choices.resamples, seed=choices.seed
    )
    return [Score(name, value, max(low, 0.0), high, spread)]


def _statistics(name: str, metric: Metric, measured: Measured) -> FeatureStatistics:
    known = measured.statistics
    found = None if known is None else known.spatial if metric.feature == SPATIAL else known.pooled
    if found is None and metric.network in measured.reference:
        return fit_gaussian(measured.reference[metric.network][metric.feature])
    if found is None:
        raise ValueError(f"{name}: found no statistics of {metric.feature} features, wanted some")
    return found


def _inception(name: str, metric: Metric, measured: Measured, choices: Choices) -> list[Score]:
    found = inception_score(measured.samples[INCEPTION][LOGITS], parts=choices.parts)
    return [Score(name, found.mean, spread=found.std, better=metric.better)]


def _shares(name: str, metric: Metric, measured: Measured, choices: Choices) -> list[Score]:
    sets = measured.samples, measured.reference
    ours, real = (of[metric.network][metric.feature] for of in sets)
    found = precision_recall(ours, real, choices.neighbours, choices.half)
    flags = {"precision": found.samples_inside, "recall": found.reference_inside}
    scores = []
    for share, inside in flags.items():
        low, high, _ = resampled(_mean, inside.astype(np.float64), seed=choices.seed)
        value, low, high = float(inside.mean()), max(low, 0.0), min(high, 1.0)
        scores.append(Score(share, value, low, high, better=metric.better))
    return scores


def _kernel(name: str, metric: Metric, measured: Measured, choices: Choices) -> list[Score]:
    sets = measured.samples, measured.reference
    ours, real = (of[metric.network][metric.feature] for of in sets)
    size = min(choices.subset_size, len(ours), len(real))
    found = kernel_distance(ours, real, choices.subsets, size, choices.seed)
    return [Score(name, found.mean, spread=found.std)]


Numbers = Callable[[str, Metric, Measured, Choices], list[Score]]
_SCORES: dict[str, Numbers] = {
    "fid": _frechet,
    "sfid": _frechet,
    "is": _inception,
    "pr": _shares,
    "kid": _kernel,
    "fvd": _frechet,
}


def networks_of(names: Sequence[str]) -> tuple[str, ...]:
    """The networks that metrics need, each once."""
    found = dict.fromkeys(METRICS[name].network for name in names)
    return tuple(network for network in found if network)


def fewest_samples(name: str, choices: Choices) -> int:
    """Of how many samples, and of as many real ones, a metric can be computed."""
    known = {"is": choices.parts or 1, "pr": choices.neighbours + 1}
    return 1 if METRICS[name].pairs else known.get(name, FEWEST)


def check_names(names: Sequence[str]) -> None:
    """Raises ValueError for names that are no metrics, or none at all."""
    unknown = [name for name in names if name not in METRICS]
    if unknown or not names:
        found = ", ".join(unknown) or "none"
        raise ValueError(f"metrics: found {found}, wanted some of {', '.join(METRICS)}")


def for_json(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Scores as JSON has them."""
    return [score._asdict() for score in scores]
