"""The files that sample.py writes: checked before anything is computed, written whole."""

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from skipdit_jax.checkpoints.atomic import replacing
from skipdit_jax.cli.options import Options
from skipdit_jax.visualise.grids import to_uint8

PICTURE, ARRAYS = ".png", ".npz"
PACKED = "samples.npz"  # all files of --sample-dir in one


class Targets(NamedTuple):
    """Where the results go.

    Attributes:
      picture: PNG file; None where nothing can be shown.
      arrays: .npz file; None if none was asked for.
    """

    picture: Path | None
    arrays: Path | None


def choose_targets(options: Options, pixels: bool) -> Targets:
    """Returns the files to write, after making sure that they can be.

    Latents cannot be shown one by one: they go to --npz, or to --out with the suffix .npz.

    Raises:
      ValueError: a name that cannot be written, or one name for both.
    """
    if options.out.suffix.lower() not in (PICTURE, ARRAYS) or (
        options.out.suffix.lower() == ARRAYS and (pixels or options.compare)
    ):
        raise ValueError(f"--out {options.out}: wanted a name that ends in {PICTURE}")
    if pixels or options.compare:
        targets = Targets(options.out, options.npz)
    else:
        targets = Targets(None, options.npz or options.out.with_suffix(ARRAYS))
    if targets.picture == targets.arrays:
        raise ValueError(f"--out and --npz are both {options.out}")
    if targets.picture is not None:
        _check_writable("--out", targets.picture)
    if targets.arrays is not None:
        _check_writable("--npz" if options.npz else "--out", targets.arrays)
    return targets


def _check_writable(flag: str, path: Path) -> None:
    if path.is_dir():
        raise ValueError(f"{flag} {path}: is a folder, wanted a file")
    if not path.parent.is_dir():
        raise ValueError(f"{flag} {path}: there is no folder {path.parent}")
    try:
        # Not os.access: it asks about permission bits and knows nothing of read-only disks.
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ValueError(
            f"{flag} {path}: cannot write into {path.parent}: {error.strerror}"
        ) from error


def save_arrays(
    path: Path, samples: np.ndarray, labels: np.ndarray | None, pixels: bool, **more: Any
) -> None:
    """Writes samples [n,H,W,C] to an .npz file.

    Args:
      path: its name is kept, whatever the suffix.
      samples: float32.
      labels: of each sample, written as int64 [n]; None for an unconditional model.
      pixels: pictures are written as `arr_0`, uint8 by `to_uint8`; latents as `latents`, float32.
      **more: arrays under further names.

    Raises:
      CheckpointError: the file cannot be written.
      ValueError: pictures that hold NaN.
    """
    arrays: dict[str, Any] = {"arr_0": to_uint8(samples)} if pixels else {"latents": samples}
    if labels is not None:
        arrays["labels"] = labels.astype(np.int64)
    with replacing(path) as file:
        np.savez(file, **(arrays | more))
