"""Our own format: one .safetensors file whose metadata tells the model it belongs to.

Tensors are named by their paths ("blocks_0/attn/qkv/kernel"); the metadata has "format" and, as
JSON, "config": {"format", "version", "family", "model": config fields, ...}.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from skipdit_jax.checkpoints.arrays import ArraySpec
from skipdit_jax.checkpoints.errors import CheckpointError, shown
from skipdit_jax.checkpoints.safetensors_files import SafetensorsFile, write_safetensors_file
from skipdit_jax.trees import flatten
from skipdit_jax.typing import Params

FORMAT = "skipdit_jax"
VERSION = 1


def save_native(
    path: str | os.PathLike[str],
    params: Params,
    model: Mapping[str, Any],
    family: str,
    **extra: Any,
) -> None:
    """Writes parameters with everything needed to use them; the file appears whole.

    Args:
      path: usually ends in .safetensors.
      params: the parameter tree.
      model: fields of the family's config.
      family: name of the family.
      **extra: more that JSON can hold, such as `diffusion` or how the weights were made.

    Raises:
      CheckpointError: the file cannot be written.
      TypeError: JSON cannot hold the metadata.
    """
    tensors = {name: array_spec(leaf) for name, leaf in flatten(params).items()}
    write_native(path, tensors, model, family, extra)


def write_native(
    path: str | os.PathLike[str],
    tensors: Mapping[str, ArraySpec],
    model: Mapping[str, Any],
    family: str,
    extra: Mapping[str, Any],
) -> None:
    """Like `save_native`, of tensors by path that are made when their turn comes."""
    config = {
        "format": FORMAT,
        "version": VERSION,
        "family": family,
        "model": dict(model),
        **extra,
    }
    write_safetensors_file(path, tensors, {"format": FORMAT, "config": json.dumps(config)})


def extra_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the `extra` of the metadata of a native file; empty for files of other kinds."""
    own = ("format", "version", "family", "model")
    return {key: value for key, value in metadata.items() if key not in own}


def array_spec(leaf: jax.Array | np.ndarray) -> ArraySpec:
    """Returns what it takes to write a leaf; it is copied to the host only when its turn comes."""
    return ArraySpec(tuple(leaf.shape), np.dtype(leaf.dtype), lambda: np.asarray(leaf))


def read_metadata(file: SafetensorsFile) -> dict[str, Any] | None:
    """Returns the metadata of a native file, or None for a .safetensors file of another kind.

    Raises:
      CheckpointError: metadata of a newer version, or damaged.
    """
    if file.metadata.get("format") != FORMAT:
        return None
    config = json.loads(file.metadata.get("config", "null"))
    if not isinstance(config, dict) or not isinstance(config.get("model"), dict):
        raise CheckpointError("its metadata has no config of the model")
    if config.get("version") != VERSION:
        raise CheckpointError(
            f"has version {shown(str(config.get('version')))} of the native format, "
            f"wanted {VERSION}"
        )
    if not isinstance(config.get("family"), str):
        raise CheckpointError("its metadata names no family")
    return config
