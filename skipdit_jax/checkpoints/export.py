"""Writes parameters back as a torch state dict: the inverse of the weight table."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from skipdit_jax.checkpoints.arrays import ArraySpec
from skipdit_jax.checkpoints.dialects import from_own
from skipdit_jax.checkpoints.errors import CheckpointError, naming
from skipdit_jax.checkpoints.layouts import OWN_NAMES, WeightLayout, dialect_of
from skipdit_jax.checkpoints.load import SAFETENSORS_SUFFIX
from skipdit_jax.checkpoints.native import array_spec
from skipdit_jax.checkpoints.rules import Entry, tensor_entries
from skipdit_jax.checkpoints.safetensors_files import DTYPES, write_safetensors_file
from skipdit_jax.checkpoints.torch_write import STORAGES, write_torch_file
from skipdit_jax.trees import flatten, unflatten
from skipdit_jax.typing import Params

TORCH_SUFFIXES = (".pt", ".pth", ".bin")
TORCH_METADATA = {"format": "pt"}  # what readers of .safetensors look for


def export_state_dict(
    path: str | os.PathLike[str],
    params: Params,
    config: Mapping[str, Any],
    family: WeightLayout,
    layout: str = OWN_NAMES,
) -> None:
    """Writes a bare state dict under the torch names, fixed tables included; it appears whole.

    Args:
      path: ends in .safetensors, or in .pt, .pth or .bin for a file that torch.load reads.
      params: the parameter tree; every tensor keeps its type.
      config: fields of the model's config.
      family: of the model.
      layout: "torch" for the family's own names, or one of its dialects.

    Raises:
      CheckpointError: another ending, a parameter that the weight table or the dialect does not
        know, or a file that cannot be written.
    """
    target = Path(path)
    with naming(target):
        check_torch_suffix(target)
        leaves = {name: array_spec(leaf) for name, leaf in flatten(params).items()}
        tensors = torch_tensors(leaves, config, family)
        dialect = dialect_of(family, layout)
        if dialect is not None:
            tensors = from_own(dialect, tensors, config)
    write_state_dict(target, tensors)


def torch_tensors(
    leaves: Mapping[str, ArraySpec], config: Mapping[str, Any], family: WeightLayout
) -> dict[str, ArraySpec]:
    """Returns the tensors of a state dict by torch name, fixed tables first.

    Args:
      leaves: the parameters by path, in our layout.
      config: fields of the model's config.
      family: of the model.

    Raises:
      CheckpointError: a parameter that the weight table does not know.
    """
    tensors = {
        name: ArraySpec(value.shape, value.dtype, value.copy)
        for name, value in family.fixed_tables(config).items()
    }
    for name, entry in tensor_entries(family.rules(config), unflatten(leaves)).items():
        tensors[name] = _spec(entry, leaves[entry.path])
    return tensors


def check_torch_suffix(target: Path) -> None:
    """Raises CheckpointError for a name that no state dict is written to."""
    suffixes = (*TORCH_SUFFIXES, SAFETENSORS_SUFFIX)
    if target.suffix not in suffixes:
        raise CheckpointError(f"ends in {target.suffix!r}, wanted one of {', '.join(suffixes)}")


def write_state_dict(target: Path, tensors: Mapping[str, ArraySpec]) -> None:
    """Writes a bare state dict, one tensor at a time in memory; it appears whole.

    Raises:
      CheckpointError: it cannot be written there, or files of that kind have no such type.
    """
    held = DTYPES.values() if target.suffix == SAFETENSORS_SUFFIX else STORAGES
    for name, spec in tensors.items():
        if spec.dtype not in held:
            raise CheckpointError(
                f"{target}: {name} has type {spec.dtype}, which no {target.suffix} file of ours has"
            )
    if target.suffix == SAFETENSORS_SUFFIX:
        write_safetensors_file(target, tensors, TORCH_METADATA)
    else:
        write_torch_file(target, tensors)


def _spec(entry: Entry, leaf: ArraySpec) -> ArraySpec:
    def value() -> np.ndarray:
        return entry.transform.to_torch(leaf.value())

    return dataclasses.replace(leaf, shape=entry.torch_shape, value=value)
