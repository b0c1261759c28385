"""The flags of everything that evaluates samples, and the networks that they ask for."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from skipdit_jax.cli.errors import OneLineParser
from skipdit_jax.cli.numbers import natural, positive
from skipdit_jax.evaluation.evaluate import Reference
from skipdit_jax.evaluation.extraction import Extractor
from skipdit_jax.evaluation.networks.blocks import DTYPES
from skipdit_jax.evaluation.networks.lpips import TRUNKS
from skipdit_jax.evaluation.networks.pixels import CLIP_RULES, RULES
from skipdit_jax.evaluation.scores import I3D, INCEPTION, LPIPS, METRICS, Choices, networks_of
from skipdit_jax.evaluation.sets import SampleSet
from skipdit_jax.weights.metrics import NetworkChoice, load_extractor

BATCHES = {INCEPTION: 64, I3D: 4, LPIPS: 16}
"""Pictures, clips or pairs at a time."""
OF_PICTURES, OF_FEATURES, OF_CLIPS = ("fid", "sfid", "is"), ("pr", "kid"), ("fvd",)


class EvaluationOptions(NamedTuple):
    """What was typed.

    Attributes are the flags; see `add_evaluation_flags`.
    """

    reference: str | None
    metrics: tuple[str, ...] | None
    resize: str
    clip_preprocessing: str
    lpips_net: str
    inception: str | None
    i3d: str | None
    lpips: str | None
    metrics_dtype: str
    metrics_batch_size: int | None
    resamples: int
    metrics_seed: int
    half_distances: bool
    is_parts: int | None
    metrics_json: Path | None

    @property
    def asked(self) -> bool:
        """Whether anything is to be evaluated."""
        return self.reference is not None or self.metrics is not None

    @property
    def choices(self) -> Choices:
        """What fixes the numbers beside networks and samples."""
        return Choices(
            resamples=self.resamples,
            seed=self.metrics_seed,
            half=self.half_distances,
            parts=self.is_parts,
        )


def add_evaluation_flags(group: Any) -> None:
    """Adds the flags to a parser or a group of one."""
    add = group.add_argument
    add(
        "--reference",
        metavar="PLACE",
        help="what samples are held against: a folder of pictures, an .npz of pictures (arr_0) or "
        "of statistics (mu, sigma; ADM's has mu_s, sigma_s and arr_0 too), a set of TFDS as "
        "NAME:SPLIT, videos, or samples of another run",
    )
    add(
        "--metrics",
        type=_names,
        metavar="NAMES",
        help=f"some of {','.join(METRICS)}; default: all of fid,sfid,is,pr,kid that the reference "
        "allows, of clips fvd",
    )
    add(
        "--resize",
        choices=RULES,
        default=RULES[0],
        help="of Inception's input: as ADM and torch-fidelity, or as pytorch-fid do; their numbers "
        "differ; default: %(default)s",
    )
    add(
        "--clip-preprocessing",
        choices=CLIP_RULES,
        default=CLIP_RULES[0],
        help="of I3D's input; default: %(default)s",
    )
    add("--lpips-net", choices=tuple(TRUNKS), default="alex", help="default: %(default)s")
    for name, what in ((INCEPTION, "InceptionV3 of FID"), (I3D, "I3D"), (LPIPS, "LPIPS")):
        add(f"--{name}", metavar="FILE", help=f"weights of {what}; default: the published ones")
    add("--metrics-dtype", choices=DTYPES, default=DTYPES[0], help="default: %(default)s")
    add("--metrics-batch-size", type=positive, metavar="B", help="default: 64; 4 of clips")
    add(
        "--resamples",
        type=natural,
        default=Choices.resamples,
        metavar="R",
        help="for confidence intervals of Fréchet distances, 20 or so, each as costly as the "
        "distance; default: %(default)s, none",
    )
    add("--metrics-seed", type=natural, default=0, help="of resampling and of KID's subsets")
    add(
        "--half-distances",
        action="store_true",
        help="round the distances of precision and recall as ADM's evaluator does",
    )
    add(
        "--is-parts",
        type=positive,
        metavar="N",
        help="equal parts of the Inception score; default: parts of 5,000 samples, as ADM's",
    )
    add(
        "--metrics-json",
        type=Path,
        metavar="FILE",
        help="also write the numbers here, with all that fixes them",
    )


def read_evaluation(values: dict[str, Any]) -> EvaluationOptions:
    """Takes the flags out of a parser's values."""
    return EvaluationOptions(**{name: values.pop(name) for name in EvaluationOptions._fields})


def typed_flags(options: EvaluationOptions) -> list[str]:
    """The flags that are not what they are by default, as typed: "--lpips-net"."""
    parser = OneLineParser()
    add_evaluation_flags(parser)
    usual = read_evaluation(vars(parser.parse_args([])))
    pairs = zip(EvaluationOptions._fields, options, usual, strict=True)
    return [f"--{name.replace('_', '-')}" for name, value, default in pairs if value != default]


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in METRICS]
    if unknown or not names:
        raise argparse.ArgumentTypeError(
            f"found {', '.join(unknown) or 'none'}, wanted some of {', '.join(METRICS)}"
        )
    return names


def chosen_metrics(
    options: EvaluationOptions, samples: SampleSet, reference: Reference
) -> tuple[str, ...]:
    """What was asked for, or all that is usual and possible."""
    if options.metrics is not None:
        return options.metrics
    if len(samples.shape) > 3:
        return OF_CLIPS
    if reference == Reference():
        return ("is",)
    usual = OF_PICTURES if reference.samples is None else (*OF_PICTURES, *OF_FEATURES)
    known = reference.statistics
    lacking = reference.samples is None and known is not None and known.spatial is None
    return tuple(name for name in usual if not (lacking and name == "sfid"))


def load_extractors(
    options: EvaluationOptions, names: Sequence[str], tell: Callable[[str], None] | None = None
) -> tuple[dict[str, Extractor], dict[str, Any]]:
    """The networks that metrics need, and what fixes their features.

    Raises:
      CheckpointError: (a ValueError) weights that cannot be had or read.
    """
    files = {INCEPTION: options.inception, I3D: options.i3d, LPIPS: options.lpips}
    rules = {INCEPTION: options.resize, I3D: options.clip_preprocessing, LPIPS: ""}
    loaded = {}
    for network in networks_of(names):
        name = f"lpips-{options.lpips_net}" if network == LPIPS else network
        batch = options.metrics_batch_size or BATCHES[network]
        choice = NetworkChoice(name, files[network], rules[network], options.metrics_dtype, batch)
        loaded[network] = load_extractor(choice, tell)
    extractors = {network: one.extractor for network, one in loaded.items()}
    return extractors, {network: one.facts for network, one in loaded.items()}
