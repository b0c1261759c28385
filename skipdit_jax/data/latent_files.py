"""Folders of pre-encoded latents: how they are laid out, and the writer.

A folder holds shards of one format and `latents.json`, which is written last. An example has
arrays [H,W,C], or [F,H,W,C] of a clip, of one dtype (float16 or float32), either "mean" and
"logvar" of an autoencoder's posterior or one "sample", and a label. Clips may have more frames than
a model takes: it is shown some of them, see `clips`.

For models of text an example also has embeddings of its caption, "text" [L,E] and "text_mask" [L],
or those of several encoders ("text_t5", ...), and its label means nothing. What stands in for a
caption that training drops, the embeddings of the empty one, is kept once, in `null_text.npz`.

* npz: arrays mean, logvar or sample [n,...] and label [n], not compressed, as `numpy.savez`
  writes them: examples are then read straight from their place in the file.
* array_record: a record is the label as int32 followed by the arrays in the order above, all
  little-endian and in C order, masks as bytes. Shapes and dtype stand in `latents.json`.

The same examples give the same bytes. `cli.encode` also keeps its settings in `encoding.json`, from
its beginning: a folder that has one and no `latents.json` is not finished.
"""

import itertools
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python import array_record_module

from skipdit_jax.data.listing import read_text
from skipdit_jax.data.sources import TEXT, Example
from skipdit_jax.data.texts import TextField, text_fields, text_names, write_null
from skipdit_jax.files import replacing_path, sha256_of

MANIFEST = "latents.json"
ENCODING = "encoding.json"
FORMATS = ("npz", "array_record")
KINDS = (("mean", "logvar"), ("sample",))
DTYPES = ("float16", "float32")
LABEL_DTYPE = np.dtype("<i4")
SHARD_SIZE = 4096
"""Examples of a shard, held in memory by the writer: 64 MiB of float16 moments at 32x32x4."""
# One record for each chunk, so that a random read decodes nothing but what was asked for.
_WRITER_OPTIONS = "group_size:1"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a folder of latents holds.

    Attributes:
      format: "npz" or "array_record".
      arrays: ("mean", "logvar") or ("sample",).
      shape: [H,W,C] or [F,H,W,C] of each array.
      dtype: "float16" or "float32".
      shards: file name -> number of examples, in order.
      max_label: the largest label.
      checksums: file name -> SHA-256 of the shard, hexadecimal; none in folders of early versions.
      encoding: the settings of `cli.encode` that made it; empty for other folders.
      class_counts: how many examples each label has; empty where nobody counted.
      classes: names of the classes by label; empty where the source told none.
      skipped: (name, reason) of the broken pictures or videos of the source that are not there.
      texts: name of the embeddings of each text encoder -> [L,E]; none without captions.
      null_text: SHA-256 of `null_text.npz`; "" where there is none.
    """

    format: str
    arrays: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    shards: dict[str, int] = field(default_factory=dict)
    max_label: int = 0
    checksums: dict[str, str] = field(default_factory=dict)
    encoding: dict[str, Any] = field(default_factory=dict)
    class_counts: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    texts: dict[str, tuple[int, int]] = field(default_factory=dict)
    null_text: str = ""


def read_manifest(folder: Path) -> Manifest:
    """Reads `latents.json`.

    Raises:
      ValueError: there is none (yet), or it is not what this module writes.
    """
    path = folder / MANIFEST
    if is_unfinished(folder):
        raise ValueError(
            f"{folder}: encoding is not finished ({ENCODING}, no {MANIFEST}), "
            "wanted the command that began it to be run again"
        )
    if not path.is_file():
        raise ValueError(
            f"data.path: no {path}, wanted a folder of write_latents, or of .npz shards"
        )
    try:
        stored = json.loads(read_text(path))
        stored |= {key: tuple(stored[key]) for key in ("arrays", "shape")}
        stored |= {key: tuple(stored.get(key, ())) for key in ("class_counts", "classes")}
        stored["skipped"] = tuple((name, why) for name, why in stored.get("skipped", ()))
        texts = stored.get("texts", {}).items()
        stored["texts"] = {name: (int(tokens), int(width)) for name, (tokens, width) in texts}
        manifest = Manifest(**stored)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}: not a manifest of latents: {error}") from error
    if (
        manifest.format not in FORMATS
        or manifest.arrays not in KINDS
        or manifest.dtype not in DTYPES
    ):
        raise ValueError(
            f"{path}: found {manifest.format}, {manifest.arrays}, {manifest.dtype}, "
            f"wanted one of {FORMATS}, {KINDS}, {DTYPES}"
        )
    return manifest


def is_unfinished(folder: Path) -> bool:
    """Whether `cli.encode` has begun a folder and not ended it."""
    return (folder / ENCODING).exists() and not (folder / MANIFEST).exists()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes `latents.json`; the shards must be there.

    Raises:
      OSError: it cannot be written.
    """
    with replacing_path(folder / MANIFEST, durable=True) as path:
        path.write_text(json.dumps(asdict(manifest), indent=2) + "\n")


def write_latents(
    folder: str | Path,
    examples: Iterable[Mapping[str, Any]],
    *,
    format: str = "array_record",
    shard_size: int = SHARD_SIZE,
    null_text: Mapping[str, Any] | None = None,
) -> Manifest:
    """Writes a folder of latents that `open_data` reads, one shard in memory at a time.

    Where it fails nothing is left behind: the folder is there whole or not at all.

    Args:
      folder: new, or empty.
      examples: mappings of "mean" and "logvar", or "sample", of one shape, and an integer "label",
        or "text" [L,E] with "text_mask" [L] (and "text_t5" with its mask).
      format: "array_record" or "npz".
      shard_size: examples of a shard.
      null_text: the texts and masks of a dropped caption, by the same names.

    Raises:
      ValueError: unknown format, no examples, examples that differ, or a folder in use.
    """
    if format not in FORMATS:
        raise ValueError(f"format: found {format!r}, wanted one of {FORMATS}")
    if shard_size < 1:
        raise ValueError(f"shard_size: found {shard_size}, wanted 1 or more")
    folder = Path(folder).resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: exists already, wanted a new or empty folder")
    temporary = folder.with_name(f".{folder.name}.tmp{os.getpid()}")
    temporary.mkdir(parents=True)
    try:
        manifest = _write_shards(temporary, examples, format, shard_size)
        if null_text is not None:
            manifest = replace(
                manifest, null_text=write_null(temporary, null_text, fields_of(manifest))
            )
        write_manifest(temporary, manifest)
        temporary.replace(folder)
    except BaseException:
        shutil.rmtree(temporary)
        raise
    return manifest


def record_dtype(manifest: Manifest) -> np.dtype:
    """The layout of one array_record record, as a structured dtype."""
    number = np.dtype(manifest.dtype).newbyteorder("<")
    arrays = [(key, number, manifest.shape) for key in manifest.arrays]
    return np.dtype([("label", LABEL_DTYPE), *arrays, *fields_of(manifest)])


def fields_of(manifest: Manifest) -> list[TextField]:
    """All texts and masks of an example."""
    return text_fields(manifest.texts, np.dtype(manifest.dtype).newbyteorder("<"))


def shard_name(number: int, format: str) -> str:
    """File name of a shard."""
    return f"latents-{number:05d}.{format}"


def write_shard(path: Path, columns: Mapping[str, np.ndarray], manifest: Manifest) -> None:
    """Writes one shard, whole or not at all; the same examples give the same bytes.

    Args:
      path: see `shard_name`.
      columns: the arrays and texts of the manifest, [n,...], and "label", [n].
      manifest: format, arrays, shape and dtype.

    Raises:
      OSError: it cannot be written.
    """
    layout = record_dtype(manifest)
    write = _write_npz if manifest.format == "npz" else _write_records
    with replacing_path(path, durable=True) as temporary:
        write(temporary, {key: columns[key] for key in layout.names or ()}, layout)


def _write_shards(
    folder: Path, examples: Iterable[Mapping[str, Any]], format: str, shard_size: int
) -> Manifest:
    wanted: Manifest | None = None
    shards: dict[str, int] = {}
    max_label = 0
    for number, shard in enumerate(_shards(examples, shard_size)):
        wanted = wanted or _describe(shard[0], format)
        _check_alike(shard, wanted, first=number * shard_size)
        name = shard_name(number, format)
        columns = {
            key: np.stack([one[key] for one in shard]) for key in record_dtype(wanted).names or ()
        }
        write_shard(folder / name, columns, wanted)
        shards[name] = len(shard)
        max_label = max(max_label, *(int(one["label"]) for one in shard))
    if wanted is None:
        raise ValueError("latents: no examples to write, wanted at least one")
    checksums = {name: sha256_of(folder / name) for name in shards}
    return replace(wanted, shards=shards, max_label=max_label, checksums=checksums)


def _shards(examples: Iterable[Mapping[str, Any]], size: int) -> Iterator[list[Example]]:
    rest = iter(examples)
    while shard := [dict(one) for one in itertools.islice(rest, size)]:
        yield [{"label": 0} | one if TEXT in one else one for one in shard]


def _describe(example: Example, format: str) -> Manifest:
    arrays = tuple(key for key in example if key != "label" and not key.startswith(TEXT))
    kind = next((kind for kind in KINDS if set(kind) == set(arrays)), None)
    if kind is None:
        raise ValueError(f"latents: found arrays {sorted(arrays)}, wanted one of {KINDS}")
    first = np.asarray(example[kind[0]])
    if first.dtype.name not in DTYPES:
        raise ValueError(f"latents: {kind[0]} is {first.dtype}, wanted one of {DTYPES}")
    texts = text_names(example)
    if misshaped := [key for key in texts if np.ndim(example[key]) != 2]:
        shape = np.shape(example[misshaped[0]])
        raise ValueError(f"latents: {misshaped[0]} is {shape}, wanted (tokens, width)")
    return Manifest(
        format=format,
        arrays=kind,
        shape=first.shape,
        dtype=first.dtype.name,
        texts={key: np.shape(example[key]) for key in texts},
    )


def _check_alike(shard: list[Example], wanted: Manifest, first: int) -> None:
    texts = {key: shape for key, _, shape in fields_of(wanted)}
    for place, example in enumerate(shard, first):
        own = {k: np.shape(v) for k, v in example.items() if k.startswith(TEXT)}
        if own != texts:
            raise ValueError(f"latents: example {place} has {own}, wanted {texts}, as the first")
        arrays = {k: v for k, v in example.items() if k != "label" and k not in texts}
        found = {k: (v.shape, v.dtype.name) for k, v in arrays.items()}
        if found != dict.fromkeys(wanted.arrays, (wanted.shape, wanted.dtype)):
            raise ValueError(
                f"latents: example {place} has {found}, "
                f"wanted {wanted.arrays} of {wanted.shape}, {wanted.dtype}, as the first"
            )
        if int(example["label"]) < 0:
            raise ValueError(f"latents: example {place} has label {example['label']}, wanted >= 0")


def _write_npz(path: Path, columns: Mapping[str, np.ndarray], layout: np.dtype) -> None:
    arrays: dict[str, Any] = {
        key: np.ascontiguousarray(column, layout[key].base) for key, column in columns.items()
    }
    with path.open("wb") as file:
        np.savez(file, **arrays)


def _write_records(path: Path, columns: Mapping[str, np.ndarray], layout: np.dtype) -> None:
    record = np.empty((), layout)
    try:
        writer = array_record_module.ArrayRecordWriter(str(path), _WRITER_OPTIONS)
        for row in range(len(columns["label"])):
            for key, column in columns.items():
                record[key] = column[row]
            writer.write(record.tobytes())
        writer.close()
    except RuntimeError as error:  # what the module raises when a disk is full
        raise OSError(f"{path}: {error}") from error
