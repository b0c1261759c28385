"""Reading of pre-encoded latents by index, from either format of `latent_files`."""

import functools
import os
import zipfile
from pathlib import Path

import grain
import numpy as np
from array_record.python import array_record_module
from jaxtyping import Int

from skipdit_jax.data.fingerprints import fingerprint
from skipdit_jax.data.latent_files import (
    KINDS,
    LABEL_DTYPE,
    MANIFEST,
    Manifest,
    fields_of,
    is_unfinished,
    read_manifest,
    record_dtype,
)
from skipdit_jax.data.sources import (
    TEXT,
    BrokenExampleError,
    Example,
    Source,
    check_labels,
)
from skipdit_jax.data.texts import NULL, read_null, text_names
from skipdit_jax.files import sha256_of

OPEN_SHARDS = 256
"""Mapped .npz shards held open at a time: a quarter of the usual limit of 1,024 open files."""
# A local header of a zip file: 30 bytes, of which the last four give the lengths of the name and of
# the extra field that follow it (PKWARE APPNOTE 4.3.7).
_HEADER, _LENGTHS = 30, slice(26, 30)


def open_latents(folder: str | Path, *, num_classes: int) -> Source:
    """Opens a folder of `write_latents` or `cli.encode`, or plain .npz shards without a manifest.

    Raises:
      ValueError: no such folder, missing or foreign files, one that is not finished, or labels
        outside num_classes.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"data.path: no folder {str(folder)!r}, wanted one of latents")
    loose = sorted(p.name for p in folder.glob("*.npz") if not p.name.startswith("."))
    if loose and not (folder / MANIFEST).exists() and not is_unfinished(folder):
        return NpzSource(folder, loose, num_classes=num_classes)
    manifest = read_manifest(folder)
    missing = [name for name in manifest.shards if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder}: {missing[0]} of {len(missing)} missing shards, see {MANIFEST}")
    check_labels(np.array([manifest.max_label]), num_classes, str(folder))
    # All that a shard should hold may have been broken.
    shards = [name for name, count in manifest.shards.items() if count]
    if manifest.format == "npz":
        checksums = _checksums(manifest)
        source: NpzSource | RecordSource = NpzSource(
            folder, shards, manifest.classes, checksums, num_classes=num_classes
        )
    else:
        source = RecordSource(folder, shards, manifest)
    if manifest.null_text:
        source.null_text = read_null(folder, fields_of(manifest))
    if len(source) != sum(manifest.shards.values()):
        raise ValueError(
            f"{folder}: shards hold {len(source)} examples, "
            f"wanted {sum(manifest.shards.values())} ({MANIFEST})"
        )
    return source


def _checksums(manifest: Manifest) -> tuple[str, ...]:
    """Of all files that examples are made of."""
    return (*manifest.checksums.values(), *filter(None, [manifest.null_text]))


def find_damage(folder: Path) -> list[str]:
    """What is wrong with each shard that is not, byte for byte, as it was written.

    Raises:
      ValueError: no manifest, or one of an early version, without checksums.
    """
    manifest = read_manifest(folder)
    if manifest.shards.keys() != manifest.checksums.keys():
        raise ValueError(f"{folder / MANIFEST}: has no checksum for each shard to compare with")
    damage = []
    null = {NULL: manifest.null_text} if manifest.null_text else {}
    for name, wanted in {**manifest.checksums, **null}.items():
        if not (folder / name).is_file():
            damage.append(f"{name} is missing")
        elif (found := sha256_of(folder / name)) != wanted:
            damage.append(f"{name} has SHA-256 {found}, wanted {wanted}")
    return damage


def shard_labels(path: Path, manifest: Manifest) -> Int[np.ndarray, "n"]:
    """Labels of all examples of one shard.

    Raises:
      ValueError: it is no shard.
    """
    if manifest.format == "npz":
        return np.array(_read_shard(str(path))["label"])
    try:
        records = array_record_module.ArrayRecordReader(str(path)).read_all()
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: {error}") from error
    return np.array([np.frombuffer(record, LABEL_DTYPE, 1)[0] for record in records], LABEL_DTYPE)


class NpzSource:
    """Examples of uncompressed .npz shards; opening reads the labels only, then one example each.

    Shards are mapped into memory, the last `OPEN_SHARDS` of them stay open.
    """

    def __init__(
        self,
        folder: Path,
        names: list[str],
        classes: tuple[str, ...] = (),
        checksums: tuple[str, ...] = (),
        *,
        num_classes: int,
    ):
        self.classes = classes
        self.null_text: dict[str, np.ndarray] = {}
        self._paths = [str(folder / name) for name in names]
        first = _map_shard(self._paths[0]) if names else {}
        self.texts = {key: first[key].shape[1:] for key in text_names(first)}
        labels = [np.array(_map_shard(path)["label"]) for path in self._paths]
        for path, values in zip(self._paths, labels, strict=True):
            check_labels(values, num_classes, path)
        self._labels = np.concatenate(labels).astype(np.int32)
        self._starts = np.cumsum([0, *map(len, labels)])
        facts = checksums or (self._labels.tobytes(),)
        self.fingerprint = fingerprint(folder, [os.fsencode(name) for name in names], facts)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> Example:
        shard = int(np.searchsorted(self._starts, index, side="right")) - 1
        stored = _map_shard(self._paths[shard])
        place = index - self._starts[shard]
        arrays = {key: np.array(stored[key][place]) for key in stored if key != "label"}
        return arrays | {"label": self._labels[index]}


class RecordSource:
    """Examples of array_record shards; opening reads their indices only."""

    def __init__(self, folder: Path, shards: list[str], manifest: Manifest):
        self._folder, self._layout = str(folder), record_dtype(manifest)
        self.classes, self.texts = manifest.classes, manifest.texts
        self.null_text: dict[str, np.ndarray] = {}
        self._records = grain.sources.ArrayRecordDataSource([str(folder / name) for name in shards])
        names = [os.fsencode(name) for name in manifest.shards]
        self.fingerprint = fingerprint(folder, names, _checksums(manifest))

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Example:
        record = self._records[index]
        if len(record) != self._layout.itemsize:
            raise BrokenExampleError(
                f"{self._folder} record {index}",
                f"{len(record)} bytes, wanted {self._layout.itemsize}",
            )
        stored = np.frombuffer(record, self._layout)[0]
        return {key: stored[key] for key in self._layout.names or ()}


def _read_shard(path: str) -> dict[str, np.ndarray]:
    """Arrays of a shard as views of the mapped file: nothing is read before it is used."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist()}
            texts = sorted(name for name in members if name.startswith(TEXT))
            others = members.keys() - texts
            kind = next((k for k in KINDS if others == {"label", *k}), None)
            if kind is None:
                raise ValueError(f"arrays {sorted(members)}, wanted label and one of {KINDS}")
            mapped = np.memmap(path, np.uint8, "r")
            arrays = {key: _view(archive, members[key], mapped) for key in (*kind, *texts, "label")}
        count = len(arrays["label"])
        if any(len(array) != count for array in arrays.values()):
            raise ValueError(
                f"lengths { {k: len(a) for k, a in arrays.items()} }, wanted one length"
            )
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: {error}") from error
    return arrays


_map_shard = functools.lru_cache(maxsize=OPEN_SHARDS)(_read_shard)


def _view(archive: zipfile.ZipFile, name: str, mapped: np.memmap) -> np.ndarray:
    """One array inside an uncompressed archive, in place."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed, wanted numpy.savez, not savez_compressed")
    with archive.open(name) as member:
        version = np.lib.format.read_magic(member)
        reader = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, fortran, dtype = reader[version](member)
        header = member.tell()
    lengths = mapped[info.header_offset :][_LENGTHS].view("<u2")
    start = info.header_offset + _HEADER + int(lengths.sum()) + header
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, wanted numbers")
    return np.ndarray(shape, dtype, mapped, start, order="F" if fortran else "C")
