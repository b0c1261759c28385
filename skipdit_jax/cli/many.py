"""Many samples for FID: one file each, drawn by all devices of all processes, and one .npz.

Batches are numbered; batch b is that of process b mod P, whose own devices split its rows, so that
processes wait for each other only at the end. A batch of which files are missing is drawn again as
a whole, because rounding may depend on a sample's place in its batch: what a stopped run left and
what the next one adds are, byte for byte, what one run would have written.
"""

import contextlib
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax
import numpy as np
from PIL import Image

from skipdit_jax import sharding
from skipdit_jax.checkpoints.atomic import replacing_file
from skipdit_jax.checkpoints.digests import digest
from skipdit_jax.cli.distributed import say, wait_for_all
from skipdit_jax.cli.errors import told_in_one_line
from skipdit_jax.cli.job import SamplingJob
from skipdit_jax.cli.runner import Batch, StepBar, make_batch
from skipdit_jax.cli.sample_flags import PROGRAM
from skipdit_jax.data.images import DECODING_ERRORS
from skipdit_jax.data.sources import is_of_machine
from skipdit_jax.files import remove_leftovers
from skipdit_jax.runs.claims import claim
from skipdit_jax.runs.locks import FolderLock
from skipdit_jax.runs.sample_sets import RECORD
from skipdit_jax.visualise.grids import save_png, to_uint8

DIGITS = 6  # of a sample number in a file name, as published


UNREADABLE = (*DECODING_ERRORS, TypeError, struct.error, zlib.error)
"""What Pillow and NumPy raise for a file that is cut or holds something else."""


class DamagedError(ValueError):
    """Files of samples that cannot be read, or hold something else."""

    def __init__(self, files: list[Path]):
        super().__init__(f"{files[0]}: damaged, as {len(files) - 1} others are")
        self.files = files


class Task(NamedTuple):
    """A batch to draw, and which of its samples have no file yet.

    Attributes:
      batch: all of it.
      missing: {row of the batch: file}.
    """

    batch: Batch
    missing: dict[int, Path]


def run(job: SamplingJob, progress: bool = False) -> None:
    """Draws what is missing in the folder and packs everything into one file.

    Args:
      job: with a folder.
      progress: show a bar of batches on process 0.

    Raises:
      SystemExit: with code 2 if the folder belongs to another run, is in use or cannot be written.
    """
    assert job.folder is not None, "many samples have a folder"
    with contextlib.ExitStack() as held:
        with told_in_one_line(PROGRAM):
            open_folder(job)
            if sharding.leads():
                held.enter_context(FolderLock(job.folder, f"--sample-dir {job.folder}"))
        tasks = find_tasks(job, jax.process_index(), jax.process_count())
        draw(job, tasks, progress and sharding.leads())
        wait_for_all("all samples are drawn")
        if sharding.leads():
            with told_in_one_line(PROGRAM):
                finish(job)
    wait_for_all("all samples are packed")


def open_folder(job: SamplingJob) -> None:
    """Makes the folder, or makes sure that it holds samples of the same run.

    Raises:
      ValueError: it holds those of another run.
      OSError: it cannot be made or written.
    """
    assert job.folder is not None, "many samples have a folder"
    claim(job.folder / RECORD, identity_of(job), f"--sample-dir {job.folder}", "samples")


def identity_of(job: SamplingJob) -> dict[str, Any]:
    """What all samples of a folder have in common, as plain JSON."""
    settings = {name: str(value) for name, value in job.settings._asdict().items()}
    decoder = job.decoder and f"{job.decoder.settings}, {digest(job.decoder.params)}"
    return {
        "model": str(job.model.config),
        "weights": digest(job.params),
        "decoder": decoder,
        "seed": jax.random.key_data(job.key).tolist(),
        "per_proc_batch_size": job.batch,
        **settings,
    }


def file_of(job: SamplingJob, number: int) -> Path:
    """The file of one sample: a picture (frames of a clip one below the other), or the latents."""
    assert job.folder is not None, "many samples have a folder"
    return job.folder / f"{number:0{DIGITS}d}{'.png' if job.pixels else '.npy'}"


def find_tasks(job: SamplingJob, process: int, processes: int) -> list[Task]:
    """The batches of one process that lack files."""
    tasks = []
    for index in range(process, -(-job.count // job.batch), processes):
        first = index * job.batch
        rows = range(min(job.batch, job.count - first))
        files = {row: file_of(job, first + row) for row in rows}
        missing = {row: path for row, path in files.items() if not path.exists()}
        if missing:
            tasks.append(Task(make_batch(job, first), missing))
    return tasks


def draw(job: SamplingJob, tasks: list[Task], progress: bool = False) -> None:
    """Samples batch after batch; the devices draw one while the last one's files are written."""
    if not tasks:
        return
    mesh = sharding.local_mesh()
    sampler = job.settings.sampler(job.model)
    params = jax.device_put(job.params, sharding.replicated(mesh))

    def arguments(batch: Batch) -> tuple[Any, ...]:
        return params, jax.device_put(batch.keys, sharding.batch_sharding(mesh)), batch.given

    compiled = sampler.lower(*arguments(tasks[0].batch)).compile()
    bar = StepBar(progress)
    with bar.shown(len(tasks), "batches"):
        last: tuple[Task, Any] | None = None
        for task in tasks:
            given = sampler.arguments(*arguments(task.batch), counted=task.batch.counted)
            samples = compiled(*given)
            if last is not None:
                write(job, *last)
                bar.advance()
            last = task, samples
        assert last is not None, "there was a task"
        write(job, *last)
        bar.advance()


def write(job: SamplingJob, task: Task, samples: Any) -> None:
    """Writes the missing files of a batch, each whole or not at all."""
    host = job.to_pixels(np.asarray(samples))
    with told_in_one_line(PROGRAM):
        for row, path in task.missing.items():
            if job.pixels:
                picture = to_uint8(host[row])
                save_png(path, picture.reshape(-1, *picture.shape[-2:]))
            else:
                with replacing_file(path) as file:
                    np.save(file, host[row])


def finish(job: SamplingJob) -> None:
    """Joins all files into one; those that turn out to be damaged are named and drawn again.

    Raises:
      ValueError: see `pack`.
      OSError: a file cannot be written or removed.
    """
    try:
        pack(job)
    except DamagedError as error:
        for path in error.files:
            say(f"damaged  {path}: drawn again")
            path.unlink()
        draw(job, find_tasks(job, 0, 1))
        pack(job)


def pack(job: SamplingJob) -> None:
    """Joins all files into one .npz, one by one, so that memory does not grow with their number.

    Raises:
      ValueError: files are missing: the processes did not see one folder.
      DamagedError: some hold no sample of the run; nothing is written.
    """
    assert job.folder is not None, "many samples have a folder"
    assert job.targets.arrays is not None, "many samples have a file"
    files = [file_of(job, number) for number in range(job.count)]
    missing = [path.name for path in files if not path.exists()]
    if missing:
        raise ValueError(
            f"--sample-dir {job.folder}: {len(missing)} files are missing, first {missing[0]}; "
            "wanted a folder that all processes share"
        )
    shape = (job.count, *job.shape)
    with (
        replacing_file(job.targets.arrays) as file,
        zipfile.ZipFile(file, "w", allowZip64=True) as archive,
    ):
        dtype = np.dtype(np.uint8 if job.pixels else np.float32)
        with _entry(archive, "arr_0" if job.pixels else "latents", shape, dtype) as entry:
            damaged = []
            for path in files:
                try:
                    sample = _read(path, shape[1:], dtype)
                except UNREADABLE as error:
                    if is_of_machine(error):
                        raise
                    damaged.append(path)
                else:
                    entry.write(sample.tobytes())
            if damaged:
                raise DamagedError(damaged)
        if job.labels is not None:
            labels = job.labels.astype(np.int64)
            with _entry(archive, "labels", labels.shape, labels.dtype) as entry:
                entry.write(labels.tobytes())
    remove_leftovers(job.folder)


@contextlib.contextmanager
def _entry(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: np.dtype
) -> Iterator[BinaryIO]:
    """An array of an .npz to write piece by piece, after its header."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
        header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(entry, header)
        yield entry  # type: ignore[misc]


def _read(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """A sample [H,W,C] or [F,H,W,C]: a PNG keeps every byte, which an MP4 would not."""
    if path.suffix == ".npy":
        found = np.load(path)
    else:
        with Image.open(path) as image:
            found = np.asarray(image).reshape(shape)
    if (found.shape, found.dtype) != (shape, dtype):
        raise ValueError(f"{path}: found {found.dtype} {found.shape}, wanted {dtype} {shape}")
    return found
