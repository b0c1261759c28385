"""What was typed at sample.py, as a value; names and help of the flags stand in sample_flags."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skipdit_jax.cli.distributed import Cluster, from_flags
from skipdit_jax.cli.evaluation_flags import EvaluationOptions, read_evaluation, typed_flags
from skipdit_jax.cli.sample_flags import DEFAULT_OUT, MAX_FILES, make_parser

OF_TEXT = (
    "prompt",
    "prompts",
    "negative_prompt",
    "text_encoder",
    "prompt_embeds",
    "seeds",
    "offload_text",
)
"""Options that a model of text alone has."""


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """Everything that was typed; None is "not given", and the checkpoint or model decides."""

    model: str | None
    ckpt: str | None
    weights: str | None
    key: str | None
    prefix: str | None
    num_sampling_steps: str | None
    sampler: str | None
    eta: float | None
    cfg_scale: float | None
    cfg_rescale: float | None
    guidance_interval: tuple[float, float] | None
    seed: int
    class_labels: tuple[int | str, ...] | None
    num_samples: int | None
    prompt: tuple[str, ...] | None
    prompts: Path | None
    negative_prompt: str | None
    text_encoder: tuple[str, ...] | None
    prompt_embeds: Path | None
    width: int | None
    height: int | None
    fps: int | None
    seeds: tuple[int, ...] | None
    image_size: int | None
    num_classes: int | None
    num_heads: int | None
    num_frames: int | None
    vae: str | None
    vae_slice: int | None
    vae_tile: int | None
    cache: str | None
    cache_step: int | None
    cache_at_branch: int | None
    driver: str
    hoist: bool | None
    attention: str
    dtype: str
    batch_size: int | None
    out: Path
    offload_text: bool | None
    npz: Path | None
    plot_decisions: Path | None
    compare: tuple[str, ...] | None
    report: Path | None
    progress: bool
    num_fid_samples: int | None
    per_proc_batch_size: int | None
    sample_dir: Path | None
    evaluation: EvaluationOptions
    cluster: Cluster


def parse(argv: Sequence[str] | None) -> SampleOptions:
    """Reads the flags.

    Raises:
      ValueError: a flag or value that does not exist; choices are listed.
      SystemExit: after --help.
    """
    values: dict[str, Any] = vars(make_parser().parse_args(argv))
    groups = values.pop("class_labels")
    labels = None if groups is None else tuple(label for group in groups for label in group)
    for name in ("guidance_interval", "compare", "prompt", "text_encoder", "seeds"):
        if values[name] is not None:
            values[name] = tuple(values[name])
    cluster, evaluation = from_flags(values), read_evaluation(values)
    options = SampleOptions(**values, class_labels=labels, evaluation=evaluation, cluster=cluster)
    _check_many(options)
    if options.image_size and (options.width or options.height):
        raise ValueError("--image-size: is both sides, wanted no --width and --height beside it")
    if options.report is not None and options.compare is None:
        raise ValueError("--report: tells of a comparison, wanted --compare beside it")
    if options.compare is not None and options.plot_decisions is not None:
        raise ValueError("--plot-decisions: draws one run, wanted no --compare beside it")
    if options.compare and any((options.cache, options.cache_step, options.cache_at_branch)):
        raise ValueError("--compare names caches: wanted no other flags of caches beside it")
    return options


def _check_unused(options: SampleOptions) -> None:
    """Flags of evaluation mean nothing for a few samples, but those of LPIPS for a report."""
    of_report = ("--lpips", "--lpips-net") if options.report is not None else ()
    typed = [flag for flag in typed_flags(options.evaluation) if flag not in of_report]
    if typed:
        raise ValueError(f"{', '.join(typed)}: wanted --num-fid-samples beside it")


def _check_many(options: SampleOptions) -> None:
    """Flags of many samples and flags of a few exclude each other."""
    if options.num_fid_samples is None:
        _check_unused(options)
        if options.per_proc_batch_size is not None or options.sample_dir is not None:
            raise ValueError("--per-proc-batch-size and --sample-dir: wanted --num-fid-samples")
        if not options.cluster.alone:
            raise ValueError("several processes sample together only with --num-fid-samples")
        return
    if options.num_fid_samples > MAX_FILES:
        raise ValueError(
            f"--num-fid-samples {options.num_fid_samples}: wanted at most {MAX_FILES}, a file each"
        )
    if options.sample_dir is None:
        raise ValueError("--num-fid-samples: wanted --sample-dir, a folder for them")
    if not options.evaluation.asked and (typed := typed_flags(options.evaluation)):
        raise ValueError(f"{', '.join(typed)}: wanted --reference or --metrics beside it")
    few = ("class_labels", "num_samples", "batch_size", "npz", "plot_decisions", *OF_TEXT)
    typed = [f"--{name.replace('_', '-')}" for name in few if getattr(options, name) is not None]
    typed += ["--compare"] * (options.compare is not None) + ["--out"] * (
        options.out != DEFAULT_OUT
    )
    if typed:
        raise ValueError(f"--num-fid-samples: wanted no {', '.join(typed)} beside it")
