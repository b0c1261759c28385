"""Opens a checkpoint of any kind and says what it is; no number of it is read here."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from skipdit_jax.checkpoints.errors import CheckpointError, naming, parsing
from skipdit_jax.checkpoints.handles import TensorHandle
from skipdit_jax.checkpoints.layouts import Layouts, WeightLayout, named, recognise
from skipdit_jax.checkpoints.native import read_metadata
from skipdit_jax.checkpoints.safetensors_files import read_safetensors_file
from skipdit_jax.checkpoints.state_dicts import BARE, WRAPPED, beside, choose, stripped
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
      which: the weights chosen: "ema", "model", "bare" (a state dict with nothing around it) or
        "native" (our own format).
      handles: the tensors, by torch name, or by our path if native.
      metadata: what a native file says of itself; empty for others.
      others: what else a training checkpoint holds and nothing is read of, such as "opt".
    """

    path: Path
    family: WeightLayout
    which: str
    handles: dict[str, TensorHandle]
    metadata: dict[str, Any]
    others: tuple[str, ...] = ()


def open_checkpoint(
    source: str | os.PathLike[str], layouts: Layouts, weights: str | None = None
) -> Checkpoint:
    """Opens a native file, a file of `torch.save` or a .safetensors state dict, told by content.

    Args:
      source: path of the file.
      layouts: of the families that it may belong to, see `registry.weight_layouts`.
      weights: "ema" or "model" where a file of torch holds both; None prefers ema and takes model
        if that is all there is.

    Raises:
      CheckpointError: missing, truncated, no checkpoint, of a family that this version does not
        read, holding a forbidden name, or without the weights asked for.
      ValueError: another value of `weights`.
    """
    if weights not in (None, *WRAPPED):
        raise ValueError(f"weights is {weights!r}, wanted one of {WRAPPED}")
    path = Path(source)
    with parsing(path):
        if path.exists() and not path.is_file():
            raise CheckpointError("is no file")
        with path.open("rb") as file:
            lead = file.read(JSON_START + 1)
        if lead[JSON_START:] == b"{" or path.suffix == SAFETENSORS_SUFFIX:
            return _open_safetensors(path, layouts)
        content = read_torch_file(path)
        which, handles = choose(content, weights)
        others = () if which == BARE else beside(content, which)
        return Checkpoint(path, recognise(handles, layouts), which, handles, {}, others)


def _open_safetensors(path: Path, layouts: Layouts) -> Checkpoint:
    file = read_safetensors_file(path)
    metadata = read_metadata(file)
    if metadata is not None:
        family = named(metadata["family"], layouts)
        return Checkpoint(path, family, NATIVE, file.handles, metadata)
    handles = stripped(file.handles)
    return Checkpoint(path, recognise(handles, layouts), BARE, handles, {})


def config_fields(checkpoint: Checkpoint, num_heads: int | None = None) -> dict[str, Any]:
    """Returns the fields of the family's config, such as `DiTConfig`, for a checkpoint.

    A native file has them in its metadata. A state dict shows them in its names and shapes, all but
    the number of heads, which is known for the published sizes.

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
        return checkpoint.family.fields_of_shapes(shapes, num_heads)
