"""Rewrites a checkpoint as another file, tensor by tensor.

Every tensor goes from its place in one file to its place in the other when its turn comes, so that
memory holds one of them at a time, whatever the size of the files.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from skipdit_jax.checkpoints.arrays import ArraySpec
from skipdit_jax.checkpoints.dialects import Dialect, from_own, told_together
from skipdit_jax.checkpoints.errors import CheckpointError, naming
from skipdit_jax.checkpoints.export import check_torch_suffix, torch_tensors, write_state_dict
from skipdit_jax.checkpoints.handles import TensorHandle
from skipdit_jax.checkpoints.layouts import OWN_NAMES, dialect_of
from skipdit_jax.checkpoints.load import NATIVE, SAFETENSORS_SUFFIX, Checkpoint
from skipdit_jax.checkpoints.matching import Matching, match_weights, read_weights
from skipdit_jax.checkpoints.native import extra_metadata, write_native
from skipdit_jax.checkpoints.rules import IDENTITY, tensor_entries
from skipdit_jax.trees import Shape, unflatten
from skipdit_jax.typing import Params

TORCH = OWN_NAMES
LAYOUTS = (NATIVE, TORCH, "diffusers", "compvis", "original")
"""What a target may be: our format, the names of the originals, or a dialect of the family."""

ORIGIN = "converted_from"
"""Key of a native file's metadata that tells which file and which of its weights it was made of."""

Move = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Row:
    """One tensor of a conversion.

    Attributes:
      name: in the source; empty if the tensor is computed.
      found: where it lies there; None if it is computed.
      target: name in the target; empty if it is not stored.
      spec: what is written; None if it is not stored.
    """

    name: str
    found: TensorHandle | None
    target: str
    spec: ArraySpec | None


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What is going to be written; its numbers are still in the source.

    Attributes:
      checkpoint: the source.
      layout: one of LAYOUTS.
      config: fields of the model's config.
      rows: every tensor of the source and of the target.
      rounded: fixed tables that the source holds in rounded form.
      metadata: of a native source: what it says beyond its model, such as "diffusion".
    """

    checkpoint: Checkpoint
    layout: str
    config: Mapping[str, Any]
    rows: tuple[Row, ...]
    rounded: tuple[str, ...]
    metadata: Mapping[str, Any]

    @property
    def tensors(self) -> dict[str, ArraySpec]:
        """What the target holds, by name."""
        return {row.target: row.spec for row in self.rows if row.spec is not None}

    def write(
        self, path: str | os.PathLike[str], advance: Callable[[], None] = lambda: None
    ) -> None:
        """Writes the target; it appears whole.

        Args:
          path: see `choose_layout`.
          advance: called when a tensor's turn comes.

        Raises:
          CheckpointError: values that are not finite or too large for their new type, a source
            that cannot be read any more, or a target that cannot be written.
        """
        tensors = {name: _counted(spec, advance) for name, spec in self.tensors.items()}
        if self.layout == NATIVE:
            family, extra = self.checkpoint.family.name, {**self.metadata, ORIGIN: self._origin()}
            write_native(path, tensors, self.config, family, extra)
        else:
            write_state_dict(Path(path), tensors)

    def _origin(self) -> dict[str, Any]:
        """Where the weights came from, and before that."""
        origin = {"file": self.checkpoint.path.name, "weights": self.checkpoint.which}
        earlier = {ORIGIN: self.metadata[ORIGIN]} if ORIGIN in self.metadata else {}
        return {**origin, **earlier}


def choose_layout(checkpoint: Checkpoint, target: Path, asked: str | None = None) -> str:
    """Returns the layout of a target, one of LAYOUTS.

    Args:
      checkpoint: the source.
      target: .pt, .pth and .bin are torch's; .safetensors may be either.
      asked: what it must be; None makes a native .safetensors file of torch's layout and the other
        way round.

    Raises:
      CheckpointError: another ending, one that does not go with the layout asked for, or the source
        itself.
    """
    with naming(target):
        check_torch_suffix(target)
        if target.exists() and os.path.samefile(target, checkpoint.path):
            raise CheckpointError("is the source itself, wanted another file")
        if target.suffix != SAFETENSORS_SUFFIX and asked == NATIVE:
            raise CheckpointError(f"a native file ends in {SAFETENSORS_SUFFIX}")
    if target.suffix != SAFETENSORS_SUFFIX:
        return asked or TORCH
    return asked or (TORCH if checkpoint.which == NATIVE else NATIVE)


def plan_conversion(
    checkpoint: Checkpoint,
    expected: Params,
    config: Mapping[str, Any],
    to: str,
    dtype: np.dtype | None = None,
) -> Conversion:
    """Decides where every tensor goes; of the numbers, only the fixed tables are read.

    A native target leaves fixed tables out, as models compute them, unless the source holds them in
    rounded form. Torch's layout has them; those of a torch source are kept bit for bit, as are its
    names and their order.

    Args:
      checkpoint: see `load.open_checkpoint`.
      expected: tree of `jax.ShapeDtypeStruct` of the checkpoint's model.
      config: fields of the model's config.
      to: one of LAYOUTS.
      dtype: type of the weights in the target, fixed tables then being float32; None keeps all.

    Raises:
      CheckpointError: whatever `fill` finds before it reads weights.
    """
    with naming(checkpoint.path):
        matching = match_weights(checkpoint, expected, config)
        if to != NATIVE and checkpoint.which != NATIVE:
            rows = list(_as_they_are(checkpoint, matching, config, dtype))
        else:
            rows = sorted(_to_native(checkpoint, matching, dtype), key=lambda row: row.target)
        if to != NATIVE and checkpoint.which == NATIVE:
            rows = list(_to_torch(checkpoint, rows, config))
        dialect = None if to == NATIVE else dialect_of(checkpoint.family, to)
        if dialect is not None:
            rows = list(_in_dialect(rows, dialect, config))
    metadata = extra_metadata(checkpoint.metadata)
    return Conversion(checkpoint, to, config, tuple(rows), matching.rounded, metadata)


def _as_they_are(
    checkpoint: Checkpoint, matching: Matching, config: Mapping[str, Any], dtype: np.dtype | None
) -> Iterator[Row]:
    """The rows of a torch source; tables that it lacks are computed."""
    tables = checkpoint.family.fixed_tables(config)
    for name in matching.computed:
        table = tables[name]
        yield Row("", None, name, ArraySpec(table.shape, table.dtype, table.copy))
    for name, handle in checkpoint.handles.items():
        if name in matching.computed:
            continue
        wanted = _table_type(dtype) if name in matching.tables else dtype
        yield _row(checkpoint, name, name, handle.shape, IDENTITY.from_torch, wanted)


def _to_native(checkpoint: Checkpoint, matching: Matching, dtype: np.dtype | None) -> Iterator[Row]:
    for name, entry in matching.entries.items():
        move = entry.transform.from_torch
        yield _row(checkpoint, name, entry.path, entry.shape, move, dtype)
    for name, handle in matching.tables.items():
        if name in matching.rounded:
            wanted = _table_type(dtype)
            yield _row(checkpoint, name, name, handle.shape, IDENTITY.from_torch, wanted)
        else:
            yield Row(name, handle, "", None)


def _to_torch(
    checkpoint: Checkpoint, native: list[Row], config: Mapping[str, Any]
) -> Iterator[Row]:
    """The rows of a native source under torch's names, those of tables first."""
    family = checkpoint.family
    leaves = {row.target: row.spec for row in native if row.spec is not None}
    entries = tensor_entries(family.rules(config), unflatten(leaves))
    for name, spec in torch_tensors(leaves, config, family).items():
        path = entries[name].path if name in entries else ""
        yield Row(path, checkpoint.handles.get(path), name, spec)
    yield from (row for row in native if row.spec is None)


def _in_dialect(rows: list[Row], dialect: Dialect, config: Mapping[str, Any]) -> Iterator[Row]:
    """The rows of a state dict under other names; what the dialect computes is not stored.

    Tensors that the dialect has in one are told in the row of the last of them.
    """
    specs = {row.target: row.spec for row in rows if row.spec is not None}
    for row in rows:
        if row.spec is None:
            yield row
            continue
        together = told_together(dialect, row.target, config)
        if row.target != together[-1]:
            continue
        spelt = from_own(dialect, {name: specs[name] for name in together}, config)
        for name, spec in spelt.items():
            yield dataclasses.replace(row, target=name, spec=spec)
        if not spelt and row.found is not None:
            yield Row(row.name, row.found, "", None)


def _table_type(dtype: np.dtype | None) -> np.dtype | None:
    """Models compute with fixed tables in float32, and rounding would change what they do."""
    return None if dtype is None else np.dtype(np.float32)


def _row(
    checkpoint: Checkpoint, name: str, target: str, shape: Shape, move: Move, dtype: np.dtype | None
) -> Row:
    """A tensor of the source that a pure move brings to the target's shape; None keeps its type."""
    handle = checkpoint.handles[name]
    wanted = handle.dtype if dtype is None else dtype

    def value() -> np.ndarray:
        with naming(checkpoint.path):
            return read_weights(name, handle, move, wanted)

    return Row(name, handle, target, ArraySpec(shape, wanted, value, cast=True))


def _counted(spec: ArraySpec, advance: Callable[[], None]) -> ArraySpec:
    def value() -> np.ndarray:
        advance()
        return spec.value()

    return dataclasses.replace(spec, value=value)
