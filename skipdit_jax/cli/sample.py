"""sample.py: labels in, pictures or clips out; see options.py for the flags.

Exit codes: 0 done, 2 bad input (one line on stderr, nothing written).
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from skipdit_jax.caching import notation
from skipdit_jax.cli import compare, many
from skipdit_jax.cli.build import prepare_sampling
from skipdit_jax.cli.distributed import initialize, say
from skipdit_jax.cli.errors import show_any_name, told_in_one_line
from skipdit_jax.cli.evaluate import prepare_evaluation, run_evaluation
from skipdit_jax.cli.interrupts import interruptible
from skipdit_jax.cli.job import SamplingJob
from skipdit_jax.cli.looks import load_looks
from skipdit_jax.cli.machine import command
from skipdit_jax.cli.memory import enough_memory
from skipdit_jax.cli.options import parse
from skipdit_jax.cli.outputs import make_folders, save_arrays, save_movies, save_texts
from skipdit_jax.cli.report_parts import TITLE, curve_variants, section_of
from skipdit_jax.cli.runner import Result, decisions_of, run, use_compilation_cache
from skipdit_jax.cli.sample_flags import PROGRAM
from skipdit_jax.evaluation.sets import PackedSet, SetToCome
from skipdit_jax.runs.class_names import printable
from skipdit_jax.sharding import leads
from skipdit_jax.visualise.curves import plot_decisions
from skipdit_jax.visualise.grids import enlarge, make_grid, save_picture, to_uint8
from skipdit_jax.visualise.report import write_report
from skipdit_jax.visualise.video import make_strip, make_video_grid

SMALLER = (
    "wanted a smaller --batch-size (--per-proc-batch-size), --dtype bfloat16, or of an autoencoder "
    "--vae-slice 1 or --vae-tile 64"
)
MOST_CLASSES = 10  # told by name
LATENTS_NOTE = "note     these are latents: --vae ema, mse or a file makes pictures of them"


@interruptible(PROGRAM)
@enough_memory(PROGRAM, SMALLER)
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
      argv: the flags, without the program's name; None for those of the process.

    Returns:
      The exit code, 0.

    Raises:
      SystemExit: with code 2 for bad input, or that of a signal.
    """
    show_any_name()
    with told_in_one_line(PROGRAM):
        options = parse(argv)
        initialize(options.cluster, PROGRAM)
        job = prepare_sampling(options)
        asked = options.compare
        variants = [] if asked is None else compare.make_variants(job, asked)
        if options.report is not None:
            variants += curve_variants(job, variants)
            looks = load_looks(job, options.evaluation)
        evaluation = None
        if options.evaluation.asked and leads():
            evaluation = prepare_evaluation(options.evaluation, to_come(job))
    use_compilation_cache()
    say(describe_run(job))
    if job.folder is not None:
        many.run(job, options.progress)
        if evaluation is not None and job.targets.arrays is not None:
            with told_in_one_line(PROGRAM):
                drawn = PackedSet(job.targets.arrays)
                typed = command("python sample.py", argv)
                run_evaluation(evaluation, drawn, typed, options.progress)
    elif variants:
        scores = compare.measure(job, variants, options.progress)
        print(compare.table(scores, job.settings))
        with told_in_one_line(PROGRAM):
            write_comparison(job, scores)
            if job.targets.report is not None:
                typed = command("python sample.py", argv)
                section, numbers = section_of(job, scores, typed, looks)
                write_report(job.targets.report, TITLE, [section], numbers)
    else:
        result = run(job, options.progress)
        print(describe_time(result))
        if result.ran:
            print(describe_decisions(job, result))
        samples = decode(job, result.samples)
        with told_in_one_line(PROGRAM):
            write_samples(job, samples)
            if job.targets.curve is not None:
                write_curve(job, job.targets.curve, result)
    say(describe_files(job))
    return 0


def to_come(job: SamplingJob) -> SetToCome:
    """What is known of many samples before they are drawn.

    Raises:
      ValueError: they are latents, of which no metric knows anything.
    """
    if not job.pixels:
        raise ValueError("--metrics: these are latents, wanted --vae ema, mse or a file beside it")
    return SetToCome(f"--sample-dir {job.folder}", job.count, job.shape)


def decode(job: SamplingJob, samples: np.ndarray) -> np.ndarray:
    """Makes pictures of latents if there is a decoder, and tells how long it took."""
    if job.decoder is None:
        return job.to_pixels(samples)
    start = time.perf_counter()
    pictures = job.to_pixels(samples)
    print(f"decode   {time.perf_counter() - start:.1f} s, compiling included")
    return pictures


def write_samples(job: SamplingJob, samples: np.ndarray) -> None:
    """Writes the grid, of clips also their strip, and the arrays.

    Raises:
      ValueError: samples that hold NaN.
      OSError: (or CheckpointError) a file cannot be written.
    """
    targets = job.targets
    still = movie = None
    if targets.picture is not None:
        shown = enlarge(to_uint8(samples))
        movie = make_video_grid(shown, job.columns) if targets.movies else None
        still = make_strip(shown) if targets.movies else make_grid(shown, job.columns)
    _write_shown(job, still, movie)
    if targets.arrays is not None:
        save_arrays(targets.arrays, samples, job.labels, job.pixels, **_texts(job))


def write_curve(job: SamplingJob, path: Path, result: Result) -> None:
    """Draws the decisions of the first batch; its first sample's, and condition's, if these decide.

    Raises:
      OSError: the file cannot be written.
    """
    kinds, compared = decisions_of(job.settings.sampler(job.model), result.ran[0])
    make_folders([path])
    plot_decisions(path, kinds, compared)


def write_comparison(job: SamplingJob, scores: Sequence[compare.Score]) -> None:
    """Writes the labelled picture, and the samples of all variants, one after the other.

    Of clips the picture shows the frames in the middle, and MP4 and GIF all of them.
    """
    targets = job.targets
    movie = compare.movie(scores, job.titles, job.pixels) if targets.movies else None
    _write_shown(job, compare.picture(scores, job.titles, job.pixels), movie)
    if targets.arrays is not None:
        samples = np.concatenate([row.samples for row in scores])
        labels = None if job.labels is None else np.tile(job.labels, len(scores))
        names = [f"{row.variant.name}, {row.variant.steps} steps" for row in scores]
        variants = np.repeat(names, job.count)
        texts = {name: np.tile(texts, len(scores)) for name, texts in _texts(job).items()}
        save_arrays(targets.arrays, samples, labels, job.pixels, variant=variants, **texts)


def _write_shown(job: SamplingJob, still: np.ndarray | None, movie: np.ndarray | None) -> None:
    """Makes the folders, and writes what a person looks at and the prompts beside it."""
    targets = job.targets
    make_folders(targets.files)
    if movie is not None:
        save_movies(targets.movies, movie, job.fps, job.description)
    if still is not None and targets.picture is not None:
        save_picture(targets.picture, still, job.description)
    if targets.texts is not None and job.prompts is not None:
        save_texts(targets.texts, job.prompts.texts)


def _texts(job: SamplingJob) -> dict[str, np.ndarray]:
    """The prompts as an array of the .npz file."""
    return {} if job.prompts is None else {"prompts": np.array(job.prompts.texts, np.str_)}


def describe_run(job: SamplingJob) -> str:
    """What is about to run: model, weights, settings, and what the cache saves."""
    config, settings = job.model.config, job.settings
    sampler = settings.sampler(job.model)
    shape = "x".join(map(str, job.model.sample_shape))
    method = f"ddim (eta {settings.eta:g})" if settings.method == "ddim" else settings.method
    guidance = f"{sampler.guidance.scale:g}"
    if sampler.guidance.interval is not None:
        guidance += " at timesteps {:g} to {:g}".format(*sampler.guidance.interval)
    cache = "none"
    if sampler.cache is not None and sampler.plan is not None:
        cache = notation.short(sampler.cache)
        branch = getattr(sampler.cache, "branch", None)
        cache += "" if branch is None else f" at branch {branch}"
    lines = [
        f"model    {job.name}: {job.model.num_stages} stages, {job.model.num_skips} skips, "
        f"{shape}, {config.dtype}",
        f"weights  {job.source}",
        *(f"note     {note}" for note in job.notes),
    ]
    if job.prompts is not None:
        shown = dict.fromkeys(job.prompts.texts)
        lines += [f"prompt   {printable(text)}" for text in [*shown][:MOST_CLASSES]]
        if job.prompts.negative:
            lines.append(f"without  {printable(job.prompts.negative)}")
    if job.classes and job.labels is not None:
        lines.append(f"classes  {describe_classes(job.labels, job.classes)}")
    if job.decoder is not None:
        pictures = "x".join(map(str, job.shape))
        lines.append(f"decoder  {job.decoder.vae.config.FAMILY} {job.decoder.path}: {pictures}")
    return "\n".join(
        (
            *lines,
            f"run      {method}, steps {settings.steps}, guidance {guidance}, "
            f"cache {cache}; {job.count} samples, {job.batch} at a time",
            f"cost     {sampler.summary(job.count)}",
        )
    )


def describe_classes(labels: np.ndarray, classes: Sequence[str]) -> str:
    """The labels that are drawn with the names of their classes."""
    found = dict.fromkeys(labels.tolist())
    told = [f"{y} {printable(classes[y])}" if y < len(classes) else f"{y}" for y in found]
    return ", ".join(told[:MOST_CLASSES] + ["..."] * (len(told) > MOST_CLASSES))


def describe_time(result: Result) -> str:
    """How long it took."""
    rate = len(result.samples) / result.run_seconds
    unit = "clips" if result.samples.ndim == 5 else "images"
    return (
        f"time     {result.compile_seconds:.1f} s to compile, {result.run_seconds:.2f} s to run, "
        f"{rate:.3g} {unit}/s"
    )


def describe_decisions(job: SamplingJob, result: Result) -> str:
    """What a cache that decides has run: steps, FLOPs, and of the first batch which steps."""
    sampler = job.settings.sampler(job.model)
    kinds = [run.kinds for run in result.ran]
    told = f"ran      {sampler.summary(job.batch, kinds)}"
    first = np.asarray(kinds[0].trunk)
    if first.ndim > 1:  # each sample, or each half of guidance, has its own
        return told
    shown = "".join("x" if kind else "." for kind in first)
    return f"{told}\nsteps    {shown} (x: computed)"


def describe_files(job: SamplingJob) -> str:
    """What was written, and why there is no picture if there is none."""
    lines = [f"written  {', '.join(map(str, job.targets.files))}"]
    return "\n".join(lines if job.pixels else [*lines, LATENTS_NOTE])


if __name__ == "__main__":
    sys.exit(main())
