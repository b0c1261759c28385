"""Features of a whole set, kept piece by piece, so that a stopped evaluation goes on.

A folder belongs to one set and one network (its name is a digest of both); pieces in it are whole
or not there.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from skipdit_jax import files
from skipdit_jax.evaluation import archives
from skipdit_jax.evaluation.extraction import Extractor
from skipdit_jax.evaluation.sets import SampleSet

PIECE = 1024  # samples of a file: 20 MB of Inception's features, half a minute of two cores
LARGEST = 2**26  # numbers of an array of a piece
Features = dict[str, np.ndarray]
Tell = Callable[[int], None]
"""Called with the number of samples done."""


def kept_place() -> Path | None:
    """Where features of stopped evaluations and statistics of references are kept.

    None where nothing can be written: an evaluation is done without it too.
    """
    folder = files.cache_home() / "evaluation"
    try:
        files.check_folder(folder)
    except OSError:
        return None
    return folder


def gather(
    samples: SampleSet, extractor: Extractor, folder: Path | None = None, tell: Tell | None = None
) -> Features:
    """Features [N,D] of all samples, by name, in their order.

    Args:
      samples: the set.
      extractor: gives dicts of features.
      folder: where pieces are kept; None keeps none.
      tell: called after each batch.

    Raises:
      ValueError: a sample cannot be read, or a kept piece is damaged.
      OSError: a piece cannot be written.
    """
    parts: list[Features] = [] if folder is None else list(_kept(folder))
    done = kept = sum(map(_length, parts))
    fresh: list[Features] = []
    for made in extractor(samples.chunks(kept, extractor.batch)):
        fresh.append(made)
        done += _length(made)
        if folder is not None and done - kept >= PIECE:
            parts.append(_keep(folder, kept, fresh))
            fresh, kept = [], done
        if tell is not None:
            tell(done)
    return joined([*parts, *fresh])


def joined(parts: list[Features]) -> Features:
    """Parts one after the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _length(part: Features) -> int:
    return len(next(iter(part.values())))


def _file(folder: Path, start: int) -> Path:
    """Of the piece that begins with this sample: one that another process left fits, or is not."""
    return folder / f"{start:08d}.npz"


def _keep(folder: Path, start: int, fresh: list[Features]) -> Features:
    whole = joined(fresh)
    folder.mkdir(parents=True, exist_ok=True)
    with files.replacing_path(_file(folder, start)) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **whole)
    return whole


def _kept(folder: Path) -> Iterator[Features]:
    start, first = 0, None
    while (path := _file(folder, start)).is_file():
        try:
            with archives.reading(path) as archive:
                names = sorted(archives.names_of(archive))
                found = {name: archives.small_array(archive, name, LARGEST) for name in names}
        except ValueError as error:
            raise ValueError(f"{error}; to begin anew remove {folder}") from error
        first = first or names
        counts = {len(array) if array.ndim == 2 else 0 for array in found.values()}
        if names != first or len(counts) != 1 or 0 in counts:
            told = f"found features {names}, wanted {first} of as many samples"
            raise ValueError(f"{path}: {told}; to begin anew remove {folder}")
        yield {name: array.astype(np.float32) for name, array in found.items()}
        start += counts.pop()


def forget(folder: Path) -> None:
    """Removes what was kept in a folder, and the folder."""
    shutil.rmtree(folder, ignore_errors=True)  # what a killed process left half written too
