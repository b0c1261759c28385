"""Statistics of reference sets: those that others publish, and our own, kept in files.

Published files hold mean and covariance of the Inception network's pooled features ("mu" [2048],
"sigma" [2048,2048]; pytorch-fid), and those of ADM (Dhariwal & Nichol 2105.05233) also of its
spatial ones ("mu_s" [2023], "sigma_s"), mostly with the pictures (`packed_pictures`). Ours
have the same names, and "made_of": all that fixes the numbers, as JSON in bytes. Statistics of
different resizing differ by several percent of FID: never mix them.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from skipdit_jax import files
from skipdit_jax.config import hold
from skipdit_jax.evaluation import archives
from skipdit_jax.evaluation.moments import FeatureStatistics

WIDEST = 4096  # features of a network
MADE_OF = "made_of"
LONGEST = 2**20  # bytes of the JSON
ASYMMETRY = 1e-5  # of the largest number; published covariances may be float32
EXCESS = 1e-3  # by which a correlation may be above 1, relative


class ReferenceStatistics(NamedTuple):
    """Statistics of a reference set.

    Attributes:
      pooled: of pooled features, for FID, or of the one kind that there is (FVD).
      spatial: of spatial features, for sFID; None if the file has none.
      made_of: what fixes the numbers, as given to `write_reference`; empty for files of others.
    """

    pooled: FeatureStatistics
    spatial: FeatureStatistics | None
    made_of: Mapping[str, Any]


def read_reference(path: str | os.PathLike[str]) -> ReferenceStatistics:
    """Reads an .npz file of ADM, of pytorch-fid or of `write_reference`. Nothing in it is executed.

    Raises:
      ValueError: "PATH: reason": it cannot be read, statistics are missing, too wide or no mean and
        covariance of one set.
    """
    with archives.reading(path) as archive:
        names = archives.names_of(archive)
        pooled = _statistics(archive, "")
        spatial = _statistics(archive, "_s") if names & {"mu_s", "sigma_s"} else None
        return ReferenceStatistics(pooled, spatial, _made_of(archive) if MADE_OF in names else {})


def write_reference(path: str | os.PathLike[str], statistics: ReferenceStatistics) -> None:
    """Writes statistics; the file appears whole or not at all.

    Raises:
      TypeError: what they are made of is nothing that JSON holds.
      OSError: it cannot be written.
    """
    arrays: dict[str, Any] = {"mu": statistics.pooled.mean, "sigma": statistics.pooled.covariance}
    if statistics.spatial is not None:
        arrays |= {"mu_s": statistics.spatial.mean, "sigma_s": statistics.spatial.covariance}
    arrays[MADE_OF] = np.frombuffer(_canonical(statistics.made_of).encode(), np.uint8)
    with files.replacing_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def kept_reference(
    made_of: Mapping[str, Any],
    make: Callable[[], ReferenceStatistics],
    folder: str | os.PathLike[str] | None = None,
) -> ReferenceStatistics:
    """Statistics from the cache, or made and kept there. A damaged file of it is made anew.

    Args:
      made_of: all that fixes the numbers: digests of the data and of the weights, count, resizing,
        type. Its digest is the file's name.
      make: computes them; what it says that they are made of is replaced by `made_of`.
      folder: default "statistics" in the cache of the library.

    Raises:
      OSError: the folder cannot be written.
    """
    place = files.cache_home() / "statistics" if folder is None else Path(folder)
    path = place / f"{digest_of(made_of)}.npz"
    if path.exists():
        try:
            found = read_reference(path)
        except ValueError:
            found = None
        if found and _canonical(found.made_of) == _canonical(made_of):
            return found
    place.mkdir(parents=True, exist_ok=True)
    made = make()._replace(made_of=dict(made_of))
    write_reference(path, made)
    return made


def digest_of(made_of: Mapping[str, Any]) -> str:
    """SHA-256 of what statistics are made of, hexadecimal; the order of names does not matter."""
    return hashlib.sha256(_canonical(made_of).encode()).hexdigest()


def _canonical(made_of: Mapping[str, Any]) -> str:
    return json.dumps(dict(made_of), sort_keys=True, separators=(",", ":"))


def _made_of(archive: zipfile.ZipFile) -> Mapping[str, Any]:
    said = json.loads(archives.small_array(archive, MADE_OF, LONGEST, bytes_=True).tobytes())
    if not isinstance(said, dict):
        raise ValueError(f"{MADE_OF}: found {type(said).__name__}, wanted names and values")
    return said


def _statistics(archive: zipfile.ZipFile, ending: str) -> FeatureStatistics:
    """Mean and covariance of these names, after a look at whether they can be such."""
    names = f"mu{ending}", f"sigma{ending}"
    mean = archives.small_array(archive, names[0], WIDEST)
    covariance = archives.small_array(archive, names[1], WIDEST**2)
    width = len(mean) if mean.ndim == 1 else 0
    hold(
        " and ".join(names),
        [
            (
                width > 0 and covariance.shape == (width, width),
                f"found shapes {mean.shape} and {covariance.shape}, wanted (D,) and (D, D)",
            ),
            (
                bool(np.isfinite(mean).all() and np.isfinite(covariance).all()),
                "found NaN or infinite numbers, wanted finite ones",
            ),
        ],
    )
    away = float(np.abs(covariance - covariance.T).max())
    largest = float(np.abs(covariance).max())
    hold(
        names[1],
        [
            (
                away <= ASYMMETRY * largest,
                f"differs from its transpose by {away:.2g}, wanted a symmetric matrix",
            ),
            (_is_bounded(covariance, largest), "found correlations above 1, wanted a covariance"),
        ],
    )
    return FeatureStatistics(mean, (covariance + covariance.T) / 2)


def _is_bounded(covariance: np.ndarray, largest: float) -> bool:
    """|C_ij| <= √(C_ii C_jj) up to rounding: of every covariance, and seen without eigenvalues."""
    variances = np.diag(covariance)
    if float(variances.min()) < -ASYMMETRY * largest:
        return False
    deviations = np.sqrt(np.maximum(variances, 0))
    limit = np.outer(deviations, deviations) * (1 + EXCESS) + ASYMMETRY * largest
    return bool((np.abs(covariance) <= limit).all())
