"""Embeddings of prompts in a file, so that sampling and training run no encoder.

One .npz without pickles: `prompts` [n] (text), and for each encoder, such as "t5", `NAME/text`
float32 [n,L,E], `NAME/mask` int32 [n,L] and `NAME/cut` int32 [n].
"""

import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from skipdit_jax.encoders.text import TextEmbeddings
from skipdit_jax.files import replacing_path

SUFFIX = ".npz"
PROMPTS = "prompts"
PARTS = {"text": (np.float32, 3), "mask": (np.int32, 2), "cut": (np.int32, 1)}
"""Array of an encoder -> its type and number of axes."""

MALFORMED = (ValueError, TypeError, KeyError, EOFError, MemoryError, OverflowError, zlib.error)


def write_embeds(path: str | os.PathLike[str], embeds: Mapping[str, TextEmbeddings]) -> None:
    """Writes what encoders made of the same prompts; the file appears whole.

    Args:
      path: ends in .npz.
      embeds: name of an encoder -> what it made.

    Raises:
      ValueError: another ending, no encoder, or other prompts for another encoder.
      OSError: the file cannot be written.
    """
    target, lists = Path(path), {one.prompts for one in embeds.values()}
    if target.suffix != SUFFIX:
        raise ValueError(f"{target}: ends in {target.suffix!r}, wanted {SUFFIX}")
    if len(lists) != 1:
        raise ValueError(
            f"{target}: found {len(lists)} lists of prompts, wanted one of all encoders"
        )
    [prompts] = lists
    arrays: dict[str, Any] = {PROMPTS: np.array(prompts, dtype=np.str_)}
    for name, one in embeds.items():
        arrays |= {
            f"{name}/{part}": np.asarray(getattr(one, part), kind)
            for part, (kind, _) in PARTS.items()
        }
    with replacing_path(target) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def read_embeds(
    path: str | os.PathLike[str], widths: Mapping[str, int]
) -> dict[str, TextEmbeddings]:
    """Reads what encoders made of some prompts.

    Args:
      path: of `write_embeds`.
      widths: name of each encoder that is wanted -> E.

    Raises:
      ValueError: no such file, a damaged one, one without such an encoder, or one of another width;
        one line that begins with the path.
    """
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            held = sorted({key.partition("/")[0] for key in file.files if "/" in key})
            missing = [name for name in widths if name not in held]
            if PROMPTS not in file.files or missing:
                found, wanted = (", ".join(names) for names in (held or ["nothing"], widths))
                raise ValueError(f"holds embeddings of {found}, wanted {wanted}")
            prompts = tuple(str(prompt) for prompt in file[PROMPTS].reshape(-1))
            arrays = {name: {part: file[f"{name}/{part}"] for part in PARTS} for name in widths}
        return {name: _checked(name, prompts, arrays[name], widths[name]) for name in widths}
    except (OSError, zipfile.BadZipFile, *MALFORMED) as error:
        told = getattr(error, "strerror", None) or " ".join(str(error).split())[:300]
        raise ValueError(f"{os.fspath(path)}: {told or type(error).__name__}") from error


def _checked(
    name: str, prompts: tuple[str, ...], arrays: Mapping[str, np.ndarray], width: int
) -> TextEmbeddings:
    for part, (kind, axes) in PARTS.items():
        array = arrays[part]
        if array.dtype != kind or array.ndim != axes or len(array) != len(prompts):
            raise ValueError(
                f"{name}/{part} is {array.dtype} {array.shape} for {len(prompts)} prompts, wanted "
                f"{np.dtype(kind)} of {axes} axes"
            )
    text, mask = arrays["text"], arrays["mask"]
    if text.shape[-1] != width:
        raise ValueError(f"{name} has embeddings of width {text.shape[-1]}, wanted {width}")
    if mask.shape != text.shape[:2]:
        raise ValueError(f"{name}/mask is {mask.shape}, wanted {text.shape[:2]}")
    if not np.isfinite(text).all():
        raise ValueError(f"{name}/text holds values that are NaN or infinite")
    return TextEmbeddings(prompts, text, mask, tuple(int(n) for n in arrays["cut"]))
