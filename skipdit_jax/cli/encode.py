"""python -m skipdit_jax.cli.encode: pictures or clips in, latents for training out.

A shard depends on its number alone: its batches begin at its beginning, samples draw their noise by
the number of the example, clips begin where the number of the video says. So shards can be made by
any process, in any order, and again after a kill. See encode_options.py for the flags.

Exit codes: 0 done, 2 bad input (one line on stderr, nothing but whole shards left).
"""

import contextlib
import sys
import time
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from skipdit_jax.cli.errors import show_any_name, told_in_one_line
from skipdit_jax.optional import require

with told_in_one_line("python -m skipdit_jax.cli.encode"):
    require("train", "reading data")  # the imports below need it

import grain
import jax
import numpy as np
from absl import flags
from jaxtyping import Array, Key

from skipdit_jax import sharding
from skipdit_jax.cli.distributed import initialize, say, wait_for_all
from skipdit_jax.cli.encode_job import EncodingJob, name_of_source, prepare_encoding
from skipdit_jax.cli.encode_options import PROGRAM, EncodeOptions, parse
from skipdit_jax.cli.encode_summary import describe_source
from skipdit_jax.cli.interrupts import interruptible
from skipdit_jax.cli.memory import enough_memory
from skipdit_jax.cli.runner import StepBar, use_compilation_cache
from skipdit_jax.data.encoding import KEPT, FullBatches, Piece, as_stored, describe_shards
from skipdit_jax.data.latent_files import (
    MANIFEST,
    fields_of,
    read_manifest,
    shard_name,
    write_manifest,
    write_shard,
)
from skipdit_jax.data.latents import find_damage
from skipdit_jax.data.loader import read_ahead
from skipdit_jax.data.skipped import Note, remove_notes, write_notes
from skipdit_jax.data.sources import BROKEN, CAPTION
from skipdit_jax.data.texts import mask_of, write_null
from skipdit_jax.encoders.pixels import encode_pixels
from skipdit_jax.encoders.vae import AutoencoderKL, Pixels, sample_moments
from skipdit_jax.files import remove_leftovers
from skipdit_jax.pipeline import sample_keys
from skipdit_jax.published import LATENT_SCALE
from skipdit_jax.runs.locks import FolderLock
from skipdit_jax.typing import Params

SMALLER = "wanted a smaller --batch-size or --compute-dtype bfloat16, and another --out"
EMPTY = ""  # the caption that stands in for those that training drops
MEGABYTE = 1e6
IMAGE_AXES = 3

Columns = dict[str, np.ndarray]


class Made(NamedTuple):
    """A piece on the host: arrays [n,...], "label" and KEPT [n], and what of it was broken."""

    piece: Piece
    columns: Columns
    broken: list[Note]


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
    flags.FLAGS.mark_as_parsed()  # grain's worker processes ask absl for theirs
    with told_in_one_line(PROGRAM):
        options = parse(argv)
        initialize(options.cluster, PROGRAM)
        if options.verify:
            verify(options.out)
            return 0
        job = prepare_encoding(options)
    use_compilation_cache()
    say(describe_encoding(options, job))
    if (job.folder / MANIFEST).exists():
        with told_in_one_line(PROGRAM):
            verify(job.folder)
            remove_notes(job.folder)  # of a run that was killed behind its manifest
        return 0
    with contextlib.ExitStack() as held:
        if sharding.leads():
            with told_in_one_line(PROGRAM):
                held.enter_context(FolderLock(job.folder, f"--out {job.folder}"))
        say(encode(job, options.progress and sharding.leads()))
        if job.captioner is not None and job.captioner.longer:
            say(f"cut      {job.captioner.longer} captions were longer than their encoder sees")
        wait_for_all("all shards are written")
        if sharding.leads():
            with told_in_one_line(PROGRAM):
                finish(job)
            say(describe_folder(job))
    wait_for_all("the folder is finished")
    return 0


def encode(job: EncodingJob, progress: bool = False) -> str:
    """Makes the missing shards of this process, and says how long that took.

    Args:
      job: what to encode.
      progress: show a bar of batches.

    Raises:
      SystemExit: with code 2 for a picture that cannot be read, latents that cannot be stored, or
        a disk that is full.
    """
    pieces = find_pieces(job, jax.process_index(), jax.process_count())
    if not pieces:
        return "time     nothing was missing"
    bar = StepBar(progress)
    start, examples, columns = time.perf_counter(), 0, list[Columns]()
    notes: list[Note] = []
    with (
        contextlib.closing(encoded(job, pieces)) as results,
        bar.shown(len(pieces), "batches"),
    ):
        for piece, arrays, broken in results:
            with told_in_one_line(PROGRAM):
                columns.append(_stored(job, piece, arrays))
                notes += broken
                if piece.numbers.stop == job.plan.numbers(piece.shard).stop:
                    write_notes(shard_file(job, piece.shard), notes)
                    write_shard(shard_file(job, piece.shard), _joined(columns), job.manifest)
                    columns, notes = [], []
            examples += len(piece.numbers)
            bar.advance()
    seconds = time.perf_counter() - start
    rate = examples / seconds
    return f"time     {seconds:.1f} s with compiling, {rate:.3g} examples/s by each process"


def find_pieces(job: EncodingJob, process: int, processes: int) -> list[Piece]:
    """The batches of the shards of one process that have no file yet."""
    mine = range(process, job.plan.shards, processes)
    missing = [shard for shard in mine if not shard_file(job, shard).exists()]
    return [piece for shard in missing for piece in job.plan.pieces(shard)]


def shard_file(job: EncodingJob, shard: int) -> Path:
    """The file of one shard."""
    return job.folder / shard_name(shard, job.manifest.format)


def encoded(job: EncodingJob, pieces: Sequence[Piece]) -> Generator[Made]:
    """Makes all pieces; the devices are one batch ahead."""
    mesh = sharding.local_mesh()
    split = sharding.batch_sharding(mesh)
    params = jax.device_put(job.params, sharding.replicated(mesh))
    key = jax.random.key(job.seed) if "sample" in job.manifest.arrays else None
    batches = _open_batches(job, pieces)
    last: tuple[Any, ...] | None = None
    try:
        for piece in pieces:
            with told_in_one_line(PROGRAM):
                batch = next(batches)
            keys = key
            if key is not None:
                keys = sample_keys(key, piece.numbers.start, job.plan.batch_size)
                keys = jax.device_put(keys, split)
            pixels = jax.device_put(batch["image"], split)
            arrays = encode_batch(job.vae, params, pixels, keys, job.rows)
            if last is not None:
                yield _on_host(*last)
            texts = job.captioner(batch.pop(CAPTION)) if job.captioner else {}
            last = piece, arrays, batch | texts
    except SystemExit:
        # A picture is broken; the batch before it may be the last that a shard is waiting for.
        if last is not None:
            yield _on_host(*last)
        raise
    finally:
        batches.close()
    assert last is not None, "there was a piece"
    yield _on_host(*last)


@partial(jax.jit, static_argnames=("vae", "rows"))
def encode_batch(
    vae: AutoencoderKL, params: Params, pixels: Pixels, keys: Key[Array, "B"] | None, rows: int
) -> dict[str, Array]:
    """Encodes to "mean" and "logvar", or with a key for each example to one "sample", unscaled."""
    moments = encode_pixels(vae, params, pixels, rows)
    if keys is None:
        return moments._asdict()
    return {"sample": jax.vmap(sample_moments)(moments, keys)}


def finish(job: EncodingJob) -> None:
    """Reads what all processes have written, and writes the manifest.

    Raises:
      ValueError: shards are missing, or not what they should be.
      OSError: a file cannot be read or written.
    """
    more: dict[str, Any] = {"encoding": job.settings}
    if job.captioner is not None:
        empty = {key: column[0] for key, column in job.captioner([EMPTY]).items()}
        more["null_text"] = write_null(job.folder, empty, fields_of(job.manifest))
        job.captioner.free()
    manifest = describe_shards(job.folder, job.plan, job.manifest, **more)
    remove_leftovers(job.folder)
    write_manifest(job.folder, manifest)
    remove_notes(job.folder)


def verify(folder: Path) -> None:
    """Compares all shards with their checksums; process 0 does.

    Raises:
      ValueError: names the shards that differ.
    """
    if not sharding.leads():
        return
    if damage := find_damage(folder):
        raise ValueError(
            f"--out {folder}: {'; '.join(damage)}: to make them again, remove them and {MANIFEST} "
            "and run the command that encoded them"
        )
    shards = read_manifest(folder).shards
    say(f"verified {len(shards)} shards, {sum(shards.values())} examples in {folder}")


def describe_encoding(options: EncodeOptions, job: EncodingJob) -> str:
    """What is about to be done."""
    plan, config, manifest = job.plan, job.vae.config, job.manifest
    what = "pictures" if options.num_frames is None else "clips"
    stored, processes = " and ".join(manifest.arrays), jax.process_count()
    return "\n".join(
        (
            f"source   {name_of_source(options)}: {plan.pictures} {what} of {_times(job.shape)}"
            f"{', each also mirrored' if plan.mirrored else ''}",
            f"vae      {options.vae}: {config.FAMILY}, {config.dtype}, {plan.batch_size} examples "
            f"at a time{f' in each of {processes} processes' if processes > 1 else ''}",
            *([f"text     {job.captioner.described}"] if job.captioner else []),
            f"latents  {plan.examples} examples: {stored} of {_times(manifest.shape)}, "
            f"{manifest.dtype}, unscaled",
            f"folder   {job.folder}: {plan.shards} {manifest.format} shards of up to "
            f"{plan.shard_size}, {len(find_pieces(job, 0, 1))} batches to encode",
        )
    )


def describe_folder(job: EncodingJob) -> str:
    """What was written, and how to train on it."""
    manifest, scale = read_manifest(job.folder), job.vae.config.scaling_factor
    what = "pictures" if len(job.shape) == IMAGE_AXES else "clips"
    size = sum((job.folder / name).stat().st_size for name in manifest.shards)
    flags = f"--config.data.name=latents --config.data.path={job.folder}"
    of_what = f"labels 0..{manifest.max_label}"
    if manifest.texts:
        of_what = "captions"
    if len(manifest.class_counts) > 1:
        classes = len(manifest.classes or manifest.class_counts)
        flags = f"--config.model.num_classes={classes} {flags}"
    if scale != LATENT_SCALE:
        flags += f" --config.data.latent_scale={scale}"
    return (
        f"{describe_source(manifest, job.plan.views, what)}\n"
        f"written  {sum(manifest.shards.values())} examples, {of_what}, "
        f"{len(manifest.shards)} shards, {size / MEGABYTE:.3g} MB\n"
        f"train    python train.py --config FILE --workdir RUN {flags}"
    )


def _open_batches(job: EncodingJob, pieces: Sequence[Piece]) -> grain.DatasetIterator:
    skipped_shape = job.shape if job.skip_broken else None
    captioned = job.captioner is not None
    batches = FullBatches(job.source, job.plan, pieces, skipped_shape, captioned)
    return read_ahead(grain.MapDataset.source(batches), job.reading)


def _on_host(piece: Piece, arrays: dict[str, Array], batch: dict[str, Any]) -> Made:
    """Waits for a batch; what filled it up falls away."""
    others = {key: batch[key] for key in batch if key not in ("image", BROKEN)}
    columns = jax.device_get(arrays) | others
    cut = {key: column[: len(piece.numbers)] for key, column in columns.items()}
    return Made(piece, cut, batch[BROKEN])


def _stored(job: EncodingJob, piece: Piece, columns: Columns) -> Columns:
    numbers = {key: columns[key] for key in (*job.manifest.arrays, *job.manifest.texts)}
    stored = as_stored(numbers, job.manifest.dtype, job.plan, piece.numbers.start)
    as_they_are = ("label", *map(mask_of, job.manifest.texts))
    stored |= {key: columns[key] for key in as_they_are}
    return {key: column[columns[KEPT]] for key, column in stored.items()}


def _joined(parts: Sequence[Columns]) -> Columns:
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


if __name__ == "__main__":
    sys.exit(main())
