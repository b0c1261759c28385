"""Fills a parameter tree from an opened checkpoint, or tells everything that does not fit."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from skipdit_jax.checkpoints.errors import CheckpointError, naming
from skipdit_jax.checkpoints.handles import TensorHandle, scratch
from skipdit_jax.checkpoints.load import Checkpoint
from skipdit_jax.checkpoints.matching import (
    Matching,
    match_weights,
    read_table,
    read_weights,
)
from skipdit_jax.checkpoints.rules import Entry
from skipdit_jax.trees import flatten, unflatten
from skipdit_jax.typing import Params


def fill(
    checkpoint: Checkpoint,
    expected: Params,
    config: Mapping[str, Any],
    allow_missing: Sequence[str] = (),
    init: Params | None = None,
    keep_dtype: bool = False,
) -> dict[str, Any]:
    """Returns the parameters of a model, read from a checkpoint one tensor at a time.

    Peak memory is the parameters plus one tensor, whatever else the file holds.

    Args:
      checkpoint: see `load.open_checkpoint`.
      expected: tree of `jax.ShapeDtypeStruct`; the parameters come out in its types.
      config: fields of the model's config.
      allow_missing: shell patterns of torch names or of our paths that the file may lack, such as
        "skip_*" to make a skip model of a plain one.
      init: where leaves that are missing with permission keep their values from.
      keep_dtype: every tensor keeps the type and the bits that it has in the file, fixed tables
        included, so that what is exported again is what was read; float64 stays on the host, as
        numpy arrays, unless jax_enable_x64 is set.

    Raises:
      CheckpointError: names missing, surplus or misshapen (all of them in one message), values that
        are not finite, or a fixed table that is not the one the model computes.
    """
    with naming(checkpoint.path):
        matching = match_weights(checkpoint, expected, config, allow_missing)
        leaves, given = flatten(expected), flatten(init or {})
        if keep_dtype:
            filled = _kept_tables(matching, checkpoint.family.fixed_tables(config))
        else:
            filled = {n: jnp.asarray(read_table(matching.tables[n])) for n in matching.rounded}
        for name, entry in matching.entries.items():
            dtype = np.dtype(leaves[entry.path].dtype)
            if name in matching.absent:
                filled[entry.path] = _kept(entry, given, dtype)
            else:
                handle = checkpoint.handles[name]
                filled[entry.path] = _read(
                    name, handle, entry, handle.dtype if keep_dtype else dtype
                )
        return unflatten(filled)


def _read(name: str, handle: TensorHandle, entry: Entry, dtype: np.dtype) -> jax.Array | np.ndarray:
    """Returns one parameter; at most the file's tensor and its copy are in memory at a time."""
    ours = _own_layout(read_weights(name, handle, entry.transform.from_torch, dtype), dtype)
    # A copy, never an alias of the scratch memory; and done before the next tensor is read.
    return _as_leaf(ours.reshape(entry.shape))


def _kept_tables(
    matching: Matching, computed: Mapping[str, np.ndarray]
) -> dict[str, jax.Array | np.ndarray]:
    """The fixed tables of a file that are not, bit for bit, what the model computes."""
    found = {name: handle.read() for name, handle in matching.tables.items()}
    return {
        name: _as_leaf(table)
        for name, table in found.items()
        if (table.dtype, table.tobytes()) != (computed[name].dtype, computed[name].tobytes())
    }


def _as_leaf(array: np.ndarray) -> jax.Array | np.ndarray:
    """A copy on the device, done when this returns; on the host where JAX has no such type."""
    if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        return array.copy()
    return jnp.array(array).block_until_ready()


def _own_layout(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if array.dtype == dtype and array.flags.c_contiguous:
        return array
    ours = scratch(array.shape, dtype)
    np.copyto(ours, array, casting="unsafe")
    return ours


def _kept(entry: Entry, given: Mapping[str, Any], dtype: np.dtype) -> jax.Array:
    if entry.path not in given:
        raise CheckpointError(f"lacks {entry.path}, and init has no value for it either")
    leaf = jnp.asarray(given[entry.path])
    if tuple(leaf.shape) != entry.shape:
        raise CheckpointError(f"init has {entry.path} of shape {leaf.shape}, wanted {entry.shape}")
    return leaf.astype(dtype)
