"""Which tensor of a checkpoint belongs where in a model, made and checked before weights are read.

`fill` takes a plan to memory, `convert` to another file.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from skipdit_jax.checkpoints.errors import CheckpointError
from skipdit_jax.checkpoints.handles import TensorHandle
from skipdit_jax.checkpoints.load import NATIVE, Checkpoint
from skipdit_jax.checkpoints.rules import IDENTITY, Entry, tensor_entries
from skipdit_jax.trees import Misfits, compare, flatten, matches_glob
from skipdit_jax.typing import Params

TABLE_RANK = 3  # fixed tables are [1, n, D]
MAX_TABLE = 2**24  # numbers of a table of another size that is looked at: 64 MB
TABLE_TOLERANCE = 1e-5  # between fixed float32 tables, for the sin and cos of two libraries


@dataclasses.dataclass(frozen=True)
class Matching:
    """What a model takes from a checkpoint.

    Attributes:
      entries: the weights of the model, by their names in the file.
      absent: the names among them that the file lacks with permission.
      tables: the fixed tables in the file, by name; all are those that the model computes.
      computed: the fixed tables of the model that the file lacks, or holds for another size.
      rounded: the names among `tables` of those that the file holds in rounded form. Weights stored
        in half precision carry such tables, and the originals compute with them; they become leaves
        of the parameters under their own names, which the model then prefers to its own.
    """

    entries: dict[str, Entry]
    absent: frozenset[str]
    tables: dict[str, TensorHandle]
    rounded: tuple[str, ...]
    computed: tuple[str, ...] = ()


def match_weights(
    checkpoint: Checkpoint,
    expected: Params,
    config: Mapping[str, Any],
    allow_missing: Sequence[str] = (),
) -> Matching:
    """Matches a checkpoint with a model; of its numbers only the fixed tables are read.

    Args:
      checkpoint: see `load.open_checkpoint`.
      expected: tree of `jax.ShapeDtypeStruct`.
      config: fields of the model's config.
      allow_missing: shell patterns of torch names or of our paths that the file may lack.

    Raises:
      CheckpointError: names missing, surplus or misshapen (all of them in one message), or a fixed
        table that is not the one the model computes.
    """
    entries, tables = _wanted(checkpoint, expected, config)
    other = other_tables(checkpoint, config, tables)
    kept = {name: table for name, table in tables.items() if name not in other}
    handles = {name: h for name, h in checkpoint.handles.items() if name not in other}
    absent = _check(handles, entries, kept, tuple(allow_missing))
    held = {name: handles[name] for name in kept if name in handles}
    deviations = {name: _check_table(name, held[name], tables[name]) for name in held}
    rounded = tuple(name for name in held if deviations[name] > TABLE_TOLERANCE)
    computed = tuple(name for name in tables if name not in held)
    return Matching(entries, frozenset(absent), held, rounded, computed)


def other_tables(
    checkpoint: Checkpoint, config: Mapping[str, Any], tables: Mapping[str, np.ndarray]
) -> tuple[str, ...]:
    """Returns the names of the fixed tables that a file holds for a grid of another size.

    A model computes its own. That of the file has to be what its family computes for its size: a
    table that was trained cannot be replaced.

    Args:
      checkpoint: see `load.open_checkpoint`.
      config: fields of the model's config.
      tables: that the model computes, by name.

    Raises:
      CheckpointError: such a table is another one, or its size cannot be told.
    """
    other = {
        name: checkpoint.handles[name]
        for name, table in tables.items()
        if name in checkpoint.handles
        and name not in checkpoint.family.growing
        and _of_other_size(checkpoint.handles[name], table)
    }
    if not other:
        return ()
    if checkpoint.which == NATIVE:
        own = checkpoint.metadata["model"]
    else:
        shapes = {name: handle.shape for name, handle in checkpoint.handles.items()}
        own = checkpoint.family.fields_of_shapes(shapes, config.get("num_heads"))
    made = checkpoint.family.fixed_tables({**config, "input_size": own["input_size"]})
    for name, handle in other.items():
        if made[name].shape != handle.shape:
            raise CheckpointError(f"{name} has shape {handle.shape}, wanted {made[name].shape}")
        _check_table(name, handle, made[name])
    return tuple(other)


def _of_other_size(handle: TensorHandle, table: np.ndarray) -> bool:
    """Whether a table [1, n, D] has another n, one that the file has the numbers of."""
    found, wanted = handle.shape, table.shape
    size = math.prod(found)
    backed = size and size <= MAX_TABLE and 0 not in handle.strides[1:]
    ends = len(found) == TABLE_RANK and (found[0], found[2]) == (wanted[0], wanted[2])
    return bool(backed and ends and found != wanted)


def read_weights(
    name: str,
    handle: TensorHandle,
    transform: Callable[[np.ndarray], np.ndarray],
    dtype: np.dtype,
) -> np.ndarray:
    """Returns a tensor [...] after a pure move, in the type of its file, fit to become `dtype`.

    Args:
      name: of the tensor, for messages.
      handle: of the tensor.
      transform: the move.
      dtype: what the caller is going to make of it.

    Raises:
      CheckpointError: values that are not finite, or are too large for `dtype`.
    """
    array = transform(handle.read())
    if not array.size:
        return array
    # Rounding keeps the order, so the extremes tell of all; unlike isfinite, no second array.
    with np.errstate(invalid="ignore", over="ignore"):
        extremes = np.array([array.min(), array.max()])
        rounded = extremes.astype(dtype)
    if not np.isfinite(extremes).all():
        raise CheckpointError(f"{name} holds values that are NaN or infinite")
    if not np.isfinite(rounded).all():
        largest = np.abs(extremes.astype(np.float64)).max()
        raise CheckpointError(f"{name} holds {largest:.3g}, which is too large for {dtype}")
    return array


def read_table(handle: TensorHandle) -> Float32[np.ndarray, "1 n D"]:
    """Returns a fixed table as float32, which is the type that models compute it in."""
    return handle.read().astype(np.float32)


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
    return tensor_entries(rules, expected), tables


def _check_lengths(checkpoint: Checkpoint, config: Mapping[str, Any]) -> None:
    """Raises CheckpointError where a model wants longer tables than the weights were made with."""
    own = checkpoint.metadata["model"]
    for field in checkpoint.family.growing.values():
        if config[field] > own.get(field, config[field]):
            raise CheckpointError(f"has {field} {own[field]}, wanted {config[field]}")


def _as_stored(checkpoint: Checkpoint, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the config with tables as long as the file's, of which a model may use less."""
    longer, claimed = {}, checkpoint.family.claims(config).tables
    for name, field in checkpoint.family.growing.items():
        shape = checkpoint.handles[name].shape if name in checkpoint.handles else ()
        ours = claimed.get(name, shape)[-1:]
        if len(shape) == TABLE_RANK and shape[1] > config[field] and shape[-1:] == ours:
            longer[field] = shape[1]
    return {**config, **longer}


def _check(
    handles: Mapping[str, TensorHandle],
    entries: Mapping[str, Entry],
    tables: Mapping[str, np.ndarray],
    allow_missing: tuple[str, ...],
) -> set[str]:
    """Returns the names missing with permission; raises CheckpointError for any other misfit."""
    wanted = {name: table.shape for name, table in tables.items() if name in handles}
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


def _check_table(name: str, handle: TensorHandle, table: np.ndarray) -> float:
    """Returns by how much a fixed table differs from the computed one.

    Raises:
      CheckpointError: by more than rounding explains.
    """
    if not jnp.issubdtype(handle.dtype, jnp.floating):
        raise CheckpointError(f"{name} has type {handle.dtype}, wanted a floating type")
    found = read_table(handle)
    limit = _rounding(found)
    deviation = float(np.abs(found.astype(np.float64) - table.astype(np.float64)).max())
    if not deviation <= limit:  # NaN is no match either
        raise CheckpointError(
            f"{name} differs by {deviation:.2g} from the table that the model computes, rounding "
            f"explains {limit:.1g}"
        )
    return deviation


def _rounding(table: np.ndarray) -> float:
    """Returns the error of a table: values that all fit a half precision were rounded to it."""
    for half in (jnp.bfloat16, jnp.float16):  # the coarser first: its values fit the other
        if np.array_equal(table, table.astype(half).astype(np.float32)):
            return float(jnp.finfo(half).eps)
    return TABLE_TOLERANCE
