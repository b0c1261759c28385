"""Opens a checkpoint of any kind and says what it is; no number of it is read here."""

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

from skipdit_jax.checkpoints.array_pickles import LEAD_BYTES, is_array_pickle, read_array_pickle
from skipdit_jax.checkpoints.dialects import to_own
from skipdit_jax.checkpoints.errors import CheckpointError, naming, parsing
from skipdit_jax.checkpoints.handles import TensorHandle
from skipdit_jax.checkpoints.layouts import Layouts, WeightLayout, named, recognise
from skipdit_jax.checkpoints.native import read_metadata
from skipdit_jax.checkpoints.safetensors_files import read_safetensors_file
from skipdit_jax.checkpoints.sources import described, is_index, read_shards, weights_file
from skipdit_jax.checkpoints.state_dicts import (
    BARE,
    WRAPPED,
    Ask,
    Chosen,
    choose,
    describe_names,
)
from skipdit_jax.checkpoints.torch_files import read_torch_file

NATIVE = "native"
SAFETENSORS_SUFFIX = ".safetensors"
JSON_START = 8  # byte of a .safetensors file where its JSON header begins


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A file that was opened and understood; its numbers are still on disk.

    Attributes:
      path: the file.
      family: what kind of model it belongs to.
      which: the weights chosen: the key that they stood under ("ema", "model", "state_dict", ...),
        "bare" (a state dict with nothing around it) or "native" (our own format).
      handles: the tensors, by torch name, or by our path if native.
      metadata: what a native file says of itself; empty for others.
      others: what else a training checkpoint holds and nothing is read of, such as "opt".
      notes: what a user should know of how the file was taken, a line each.
      stated: fields of the config that a config.json beside the file states, or what the file holds
        beside the network shows.
      null_text: embeddings that stand for no text, [L,E], of families whose files hold them.
    """

    path: Path
    family: WeightLayout
    which: str
    handles: dict[str, TensorHandle]
    metadata: dict[str, Any]
    others: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    stated: dict[str, Any] = dataclasses.field(default_factory=dict)
    null_text: TensorHandle | None = None


def open_checkpoint(
    source: str | os.PathLike[str],
    layouts: Layouts,
    weights: str | None = None,
    key: str | None = None,
    prefix: str | None = None,
) -> Checkpoint:
    """Opens a native file, a file of torch, a .safetensors state dict or a pickle of arrays.

    What a file is, its content tells.

    Args:
      source: path of the file, of the index of one that is split, or of a folder that holds one.
      layouts: of the families that it may belong to, see `registry.weight_layouts`.
      weights: "ema" or "model" where a file of torch holds both; None prefers ema and takes model
        if that is all there is.
      key: of the dict in a file of torch that holds the weights; None finds it.
      prefix: what the names of the weights begin with; None finds it.

    Raises:
      CheckpointError: missing, truncated, no checkpoint, of a family that this version does not
        read, holding a forbidden name, or without the weights asked for.
      ValueError: another value of `weights`.
    """
    if weights not in (None, *WRAPPED):
        raise ValueError(f"weights is {weights!r}, wanted one of {WRAPPED}")
    path, ask = Path(source), Ask(weights, key, prefix)
    with parsing(path):
        if path.is_dir():
            path = weights_file(path)
        if path.exists() and not path.is_file():
            raise CheckpointError("is no file")
    with parsing(path):
        if is_index(path):
            return _understood(path, _of_names(read_shards(path), ask, layouts), layouts)
        with path.open("rb") as file:
            lead = file.read(LEAD_BYTES)
        if lead[JSON_START : JSON_START + 1] == b"{" or path.suffix == SAFETENSORS_SUFFIX:
            return _open_safetensors(path, ask, layouts)
        if is_array_pickle(lead):
            return _understood(path, Chosen(BARE, read_array_pickle(path)), layouts)
        return _understood(path, choose(read_torch_file(path), ask, layouts), layouts)


def _open_safetensors(path: Path, ask: Ask, layouts: Layouts) -> Checkpoint:
    file = read_safetensors_file(path)
    metadata = read_metadata(file)
    if metadata is None:
        return _understood(path, _of_names(file.handles, ask, layouts), layouts)
    if ask.key is not None or ask.prefix is not None:
        raise CheckpointError("is a native file of one network: wanted no --key, --prefix")
    family = named(metadata["family"], layouts)
    return Checkpoint(path, family, NATIVE, file.handles, metadata)


def _of_names(handles: dict[str, TensorHandle], ask: Ask, layouts: Layouts) -> Chosen:
    """The weights of a file that has names and nothing around them."""
    if ask.key is not None:
        raise CheckpointError("has no keys around its names, wanted no --key")
    notes: list[str] = []
    found = describe_names(handles, ask, layouts, notes)
    return Chosen(BARE, found, (), tuple(notes))


def _understood(path: Path, chosen: Chosen, layouts: Layouts) -> Checkpoint:
    """Says which family the weights are of, and sees them by its names."""
    family = recognise(chosen.handles, layouts)
    dialect = family.dialect(chosen.handles)
    beside = re.compile(family.beside if dialect is None else dialect.beside)
    handles = {name: h for name, h in chosen.handles.items() if not beside.fullmatch(name)}
    notes = chosen.notes
    if dialect is not None:
        notes = (*notes, f"names of {dialect.name}")
    null = None if dialect is None else chosen.handles.get(dialect.null_text)
    if left := len(chosen.handles) - len(handles) - (null is not None):
        notes = (*notes, f"{left} tensors beside the network are left out")
    told = {}
    if dialect is not None:
        told, handles = dialect.told(chosen.handles), to_own(dialect, handles)
    stated = {**told, **family.described(described(path))}
    return Checkpoint(path, family, chosen.which, handles, {}, chosen.others, notes, stated, null)


def config_fields(checkpoint: Checkpoint, num_heads: int | None = None) -> dict[str, Any]:
    """Returns the fields of the family's config, such as `DiTConfig`, for a checkpoint.

    A native file has them in its metadata. A state dict shows them in its names and shapes, all but
    the number of heads, which is known for the published sizes or from a config.json beside it; a
    field that it does not show is None.

    Args:
      checkpoint: see `open_checkpoint`.
      num_heads: for a state dict of an unpublished size.

    Raises:
      CheckpointError: the sizes cannot be told.
    """
    if checkpoint.which == NATIVE:
        return dict(checkpoint.metadata["model"])
    shapes = {name: handle.shape for name, handle in checkpoint.handles.items()}
    with naming(checkpoint.path):
        stated = {**checkpoint.stated, **({"num_heads": num_heads} if num_heads else {})}
        return {
            **checkpoint.family.fields_of_shapes(shapes, stated.get("num_heads")),
            **stated,
        }
