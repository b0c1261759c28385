"""Embeddings of captions in training data, and what stands in for a caption that training drops.

An example has "text" [L,E] and "text_mask" [L], or those of several encoders ("text_t5", ...). The
embeddings of the empty caption lie once in a folder, in `null_text.npz`, by the same names.
"""

import os
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from skipdit_jax.data.sources import MASK_ENDING, TEXT
from skipdit_jax.files import replacing_path, sha256_of

NULL = "null_text.npz"
MASK_DTYPE = np.dtype("u1")

Shapes = Mapping[str, tuple[int, int]]
"""Name of the embeddings of an encoder -> [L,E]."""
TextShapes = Mapping[str, tuple[int | None, int]]
"""The same as a model takes them; None: any number of tokens."""


def text_names(names: Iterable[str]) -> list[str]:
    """Those of these arrays that are embeddings of texts, masks aside."""
    return [name for name in names if name.startswith(TEXT) and not name.endswith(MASK_ENDING)]


class TextField(NamedTuple):
    """An array of an example: its name, type and shape."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]


def mask_of(text: str) -> str:
    """What the mask of some embeddings is called."""
    return f"{text}{MASK_ENDING}"


def text_fields(texts: Shapes, dtype: np.dtype) -> list[TextField]:
    """All texts and masks of an example, texts in that type."""
    fields: list[TextField] = []
    for name, (tokens, width) in texts.items():
        fields += [
            TextField(name, dtype, (tokens, width)),
            TextField(mask_of(name), MASK_DTYPE, (tokens,)),
        ]
    return fields


def write_null(folder: Path, null_text: Mapping[str, Any], fields: list[TextField]) -> str:
    """Writes what stands in for a dropped caption, and returns the SHA-256 of the file.

    Raises:
      ValueError: texts of other names or shapes than those of the examples.
      OSError: it cannot be written.
    """
    found = {name: np.shape(value) for name, value in null_text.items()}
    if found != (wanted := {field.name: field.shape for field in fields}):
        raise ValueError(f"null_text: found {found}, wanted {wanted}")
    arrays: dict[str, Any] = {
        field.name: np.ascontiguousarray(null_text[field.name], field.dtype) for field in fields
    }
    with replacing_path(folder / NULL, durable=True) as path, path.open("wb") as file:
        np.savez(file, **arrays)
    return sha256_of(folder / NULL)


def arrays_of(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """All arrays of an .npz file; raises ValueError, beginning with the path, if it is none."""
    try:
        # numpy leaves a file open that it opened and cannot read.
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error


def read_null(folder: Path, fields: list[TextField]) -> dict[str, np.ndarray]:
    """Reads it again, as float32.

    Raises:
      ValueError: it is not there, damaged, or of other texts.
    """
    path = folder / NULL
    arrays = arrays_of(path)
    found = {name: array.shape for name, array in arrays.items()}
    if found != (wanted := {field.name: field.shape for field in fields}):
        raise ValueError(f"{path}: found {found}, wanted {wanted}")
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def texts_of(source: object) -> dict[str, tuple[int, int]]:
    """The embeddings that the examples of a source have; none where there are no captions."""
    return dict(getattr(source, "texts", {}))


def null_text_of(source: object) -> dict[str, np.ndarray]:
    """What stands in for a dropped caption: texts and masks by name; none where nobody knows."""
    return dict(getattr(source, "null_text", {}))


def check_texts(source: object, wanted: TextShapes, where: str) -> None:
    """Makes sure that examples have the texts that a model takes.

    Args:
      source: see `texts_of`.
      wanted: of the model.
      where: the folder, for the error.

    Raises:
      ValueError: texts are missing, or of another length or width.
    """
    found = texts_of(source)
    for name, (tokens, width) in wanted.items():
        number = "any number of" if tokens is None else tokens
        told = f"wanted {name} of {number} tokens of width {width}"
        if name not in found:
            held = ", ".join(found) or "no embeddings of captions"
            raise ValueError(f"data.path: {where} holds {held}, {told}: cli.encode --text-encoder")
        if found[name][1] != width or tokens not in (None, found[name][0]):
            raise ValueError(f"data.path: {where} holds {name} of {found[name]}, {told}")
