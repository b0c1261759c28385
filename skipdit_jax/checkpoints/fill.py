"""Fills a parameter tree from an opened checkpoint, or tells everything that does not fit."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from skipdit_jax.checkpoints.errors import CheckpointError, naming
from skipdit_jax.checkpoints.handles import TensorHandle, scratch
from skipdit_jax.checkpoints.load import NATIVE, Checkpoint
from skipdit_jax.checkpoints.rules import IDENTITY, Entry, layout
from skipdit_jax.trees import Misfits, compare, flatten, matches_glob, unflatten
from skipdit_jax.typing import Params

TABLE_RANK = 3  # fixed tables are [1, n, D]
TABLE_TOLERANCE = 1e-5  # between fixed float32 tables, for the sin and cos of two libraries


def fill(
    checkpoint: Checkpoint,
    expected: Params,
    config: Mapping[str, Any],
    allow_missing: Sequence[str] = (),
    init: Params | None = None,
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

    Raises:
      CheckpointError: names missing, surplus or misshapen (all of them in one message), values that
        are not finite, or a fixed table that is not the one the model computes.
    """
    with naming(checkpoint.path):
        entries, tables = _wanted(checkpoint, expected, config)
        absent = _check(checkpoint.handles, entries, tables, tuple(allow_missing))
        for name, table in tables.items():
            if name in checkpoint.handles:
                _check_table(name, checkpoint.handles[name], table)
        leaves, given = flatten(expected), flatten(init or {})
        filled = _rounded_tables(checkpoint.handles, tables)
        for name, entry in entries.items():
            dtype = np.dtype(leaves[entry.path].dtype)
            if name in absent:
                filled[entry.path] = _kept(entry, given, dtype)
            else:
                filled[entry.path] = _read(name, checkpoint.handles[name], entry, dtype)
        return unflatten(filled)


def _wanted(
    checkpoint: Checkpoint, expected: Params, config: Mapping[str, Any]
) -> tuple[dict[str, Entry], dict[str, np.ndarray]]:
    tables = checkpoint.family.fixed_tables(_as_stored(checkpoint, config))
    if checkpoint.which == NATIVE:
        _check_lengths(checkpoint, config)
        shapes = {path: tuple(leaf.shape) for path, leaf in flatten(expected).items()}
        entries = {path: Entry(path, shape, shape, IDENTITY) for path, shape in shapes.items()}
        return entries, {name: tables[name] for name in tables if name in checkpoint.handles}
    shapes = {name: handle.shape for name, handle in checkpoint.handles.items()}
    rules = checkpoint.family.respell(checkpoint.family.rules(config), shapes)
    return layout(rules, expected), tables


def _check_lengths(checkpoint: Checkpoint, config: Mapping[str, Any]) -> None:
    """Raises CheckpointError where a model wants longer tables than the weights were made with."""
    own = checkpoint.metadata["model"]
    for field in checkpoint.family.growing.values():
        if config[field] > own.get(field, config[field]):
            raise CheckpointError(f"has {field} {own[field]}, wanted {config[field]}")


def _as_stored(checkpoint: Checkpoint, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the config with tables as long as the file's, of which a model may use less."""
    longer = {}
    for name, field in checkpoint.family.growing.items():
        shape = checkpoint.handles[name].shape if name in checkpoint.handles else ()
        if len(shape) == TABLE_RANK and shape[1] > config[field]:
            longer[field] = shape[1]
    return {**config, **longer}


def _rounded_tables(
    handles: Mapping[str, TensorHandle], tables: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Returns the fixed tables that a file holds in rounded form, under their own names.

    Weights stored in half precision carry a rounded table, and the originals compute with it; such
    a table becomes a leaf of the parameters, which the model then prefers to its own.
    """
    read = {name: handles[name].read().astype(np.float32) for name in tables if name in handles}
    return {
        name: jnp.asarray(value)
        for name, value in read.items()
        if np.abs(value - tables[name]).max() > TABLE_TOLERANCE
    }


def _check(
    handles: Mapping[str, TensorHandle],
    entries: Mapping[str, Entry],
    tables: Mapping[str, np.ndarray],
    allow_missing: tuple[str, ...],
) -> set[str]:
    """Returns the names missing with permission; raises CheckpointError for any other misfit."""
    wanted = {name: table.shape for name, table in tables.items()}
    wanted |= {name: entry.torch_shape for name, entry in entries.items()}
    found = {name: handle.shape for name, handle in handles.items()}
    paths = {name: entry.path for name, entry in entries.items()}
    misfits = compare(found, wanted)
    absent = {
        name
        for name in misfits.missing
        if any(matches_glob(label, allow_missing) for label in (name, paths.get(name, name)))
    }
    missing = tuple(name for name in misfits.missing if name not in absent)
    reasons = [str(Misfits(missing, misfits.surplus, misfits.misshapen))]
    integers = [
        f"{name} has type {handles[name].dtype}"
        for name in entries
        if name in handles and not jnp.issubdtype(handles[name].dtype, jnp.floating)
    ]
    if integers:
        reasons.append(f"{len(integers)} of no floating type: {', '.join(integers)}")
    if any(reasons):
        raise CheckpointError(f"does not fit the model: {'; '.join(filter(None, reasons))}")
    return absent


def _read(name: str, handle: TensorHandle, entry: Entry, dtype: np.dtype) -> jax.Array:
    """Returns one parameter; at most the file's tensor and its copy are in memory at a time."""
    ours = _own_layout(entry.transform.from_torch(handle.read()), dtype)
    with np.errstate(invalid="ignore"):  # unlike isfinite(ours), this makes no second array
        extremes = np.array([ours.min(), ours.max()])
    if not np.isfinite(extremes).all():
        raise CheckpointError(f"{name} holds values that are NaN or infinite")
    # A copy, never an alias of the scratch memory; and done before the next tensor is read.
    return jnp.array(ours.reshape(entry.shape)).block_until_ready()


def _own_layout(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if array.dtype == dtype and array.flags.c_contiguous:
        return array
    ours = scratch(array.shape, dtype)
    with np.errstate(over="ignore", invalid="ignore"):  # told by the caller as not finite
        np.copyto(ours, array, casting="unsafe")
    return ours


def _kept(entry: Entry, given: Mapping[str, Any], dtype: np.dtype) -> jax.Array:
    if entry.path not in given:
        raise CheckpointError(f"lacks {entry.path}, and init has no value for it either")
    leaf = jnp.asarray(given[entry.path])
    if tuple(leaf.shape) != entry.shape:
        raise CheckpointError(f"init has {entry.path} of shape {leaf.shape}, wanted {entry.shape}")
    return leaf.astype(dtype)


def _check_table(name: str, handle: TensorHandle, table: np.ndarray) -> None:
    """Raises CheckpointError unless a fixed table is the computed one, up to rounding."""
    if not jnp.issubdtype(handle.dtype, jnp.floating):
        raise CheckpointError(f"{name} has type {handle.dtype}, wanted a floating type")
    found = handle.read().astype(np.float32)
    limit = _rounding(found)
    deviation = float(np.abs(found.astype(np.float64) - table.astype(np.float64)).max())
    if not deviation <= limit:  # NaN is no match either
        raise CheckpointError(
            f"{name} differs by {deviation:.2g} from the table that the model computes, rounding "
            f"explains {limit:.1g}"
        )


def _rounding(table: np.ndarray) -> float:
    """Returns the error of a table: values that all fit a half precision were rounded to it."""
    for half in (jnp.bfloat16, jnp.float16):  # the coarser first: its values fit the other
        if np.array_equal(table, table.astype(half).astype(np.float32)):
            return float(jnp.finfo(half).eps)
    return TABLE_TOLERANCE
