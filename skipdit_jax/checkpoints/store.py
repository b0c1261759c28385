"""Training checkpoints through orbax: a folder of steps, each written whole or not at all.

Each carries the digests of its items and of what is saved beside them (see `sealing`), which are
compared with what is read.

Opening an orbax root creates it, and its errors tell the cause only in `__cause__`; so the folder
is looked at first, and errors are told with their chain.
"""

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import multihost
from orbax.checkpoint import v1 as ocp

from skipdit_jax import sharding
from skipdit_jax.checkpoints.digests import digest
from skipdit_jax.checkpoints.errors import CheckpointError
from skipdit_jax.checkpoints.sealing import Metadata, read_sealed, seal

Items = dict[str, Any]
KEEP_LAST = 2
DAMAGED = ".damaged"
"""Ending of the folder of a step that is no checkpoint any more."""
READ_ERRORS = (OSError, ValueError, KeyError, ocp.training.errors.StepNotFoundError)


@dataclasses.dataclass(frozen=True)
class Restored:
    """One checkpoint.

    Attributes:
      step: steps done when it was saved.
      items: the named trees asked for.
      metadata: the JSON-able dict saved with them.
      skipped: one line for each newer checkpoint that could not be used.
    """

    step: int
    items: Items
    metadata: Metadata
    skipped: tuple[str, ...] = ()


class Store(contextlib.AbstractContextManager):
    """Writes checkpoints of one run, asynchronously, and keeps the newest ones.

    Use as a context manager: leaving it waits for the last save and raises its error.
    """

    def __init__(self, root: Path, keep: int = KEEP_LAST, keep_every: int = 0):
        """Opens a folder, made if missing.

        Args:
          root: the folder.
          keep: how many of the newest checkpoints stay.
          keep_every: those of steps divisible by this stay too; 0 for none.

        A step whose metadata is damaged is set aside as STEP.damaged.
        """
        _set_aside_damage(root)
        policies = ocp.training.preservation_policies
        newest, spaced = policies.LatestN(keep), policies.EveryNSteps(keep_every or 1)
        self._checkpointer = ocp.training.Checkpointer(
            root.absolute(),
            preservation_policy=policies.AnyPreservationPolicy(
                [newest, spaced] if keep_every else [newest]
            ),
            cleanup_tmp_directories=True,
        )
        self._root, self._step = root, 0
        self._pending: Any = None

    def __exit__(self, *_: object) -> None:
        self.wait()
        self._checkpointer.close()

    def save(self, step: int, items: Items, metadata: Metadata) -> None:
        """Starts a save; arrays are copied before this returns, so they may be donated after.

        Args:
          step: name of the checkpoint.
          items: trees by name, each of which can be restored alone.
          metadata: anything JSON can hold.
        """
        self.wait()
        sealed = seal(metadata, {name: digest(tree) for name, tree in items.items()})
        with self._telling(step):
            self._pending = self._checkpointer.save_checkpointables_async(
                step, items, custom_metadata=sealed, force=True, overwrite=True
            )
        self._step = step

    def wait(self) -> None:
        """Returns when the last save is on disk; raises what went wrong with it."""
        pending, self._pending = self._pending, None
        if pending is not None:
            with self._telling(self._step):
                pending.result()

    @contextlib.contextmanager
    def _telling(self, step: int) -> Iterator[None]:
        """Whatever orbax raises, of whatever kind, is told in one line, by its deepest cause."""
        try:
            yield
        except Exception as error:
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            reason = " ".join(str(cause).split()) or type(cause).__name__
            raise CheckpointError(f"{self._root}/{step}: cannot be saved: {reason}") from error


def steps_in(root: Path) -> list[int]:
    """Returns the finished steps below `root`, newest first; creates nothing.

    Raises:
      CheckpointError: it is a file.
    """
    if root.exists() and not root.is_dir():
        raise CheckpointError(f"{root}: is no folder, wanted one of checkpoints, or none")
    if not root.is_dir():
        return []
    names = (entry.name for entry in root.iterdir() if entry.is_dir())
    return sorted((int(name) for name in names if name.isdecimal()), reverse=True)


def latest_step(root: Path) -> int | None:
    """Returns the newest finished step below `root`, or None; creates nothing."""
    return next(iter(steps_in(root)), None)


def restore_newest(
    root: Path, abstract: Items, accept: Callable[[Metadata], None]
) -> Restored | None:
    """Reads the newest intact checkpoint, or returns None where there is none at all.

    Args:
      root: folder of checkpoints.
      abstract: see `restore`.
      accept: given the metadata before anything is read; raises what shall stop the search.

    Raises:
      CheckpointError: there are checkpoints, but none of them is intact.
    """
    skipped: list[str] = []
    for step in steps_in(root):
        try:
            metadata = read_metadata(root, step)
        except CheckpointError as error:
            skipped.append(str(error))
            continue
        accept(metadata)
        try:
            found = restore(root, abstract, step)
        except CheckpointError as error:
            skipped.append(str(error))
        else:
            return dataclasses.replace(found, skipped=tuple(skipped))
    if skipped:
        raise CheckpointError(f"{root}: no checkpoint is intact: {'; '.join(skipped)}")
    return None


def restore(root: Path, abstract: Items, step: int | None = None) -> Restored:
    """Reads one checkpoint into the given shapes.

    Args:
      root: folder of checkpoints.
      abstract: tree of arrays or `ShapeDtypeStruct` per wanted item; None takes it as saved.
      step: which checkpoint; the newest if not given.

    Raises:
      CheckpointError: no such checkpoint, it does not fit (with orbax's own reasons), or it is not
        what was saved.
    """
    found = latest_step(root) if step is None else step
    if found is None or not (root / str(found)).is_dir():
        wanted = "checkpoint" if step is None else f"step {step}"
        raise CheckpointError(f"{root}: no {wanted}, newest is {latest_step(root)}")
    metadata, digests = read_sealed(root / str(found))
    shapes = {name: None if tree is None else _shapes(tree) for name, tree in abstract.items()}
    try:  # not through a Checkpointer: it reads all steps, and some damage of others ends it
        items = ocp.load_checkpointables(root.absolute() / str(found), shapes)
    except READ_ERRORS as error:
        raise CheckpointError(f"{root}/{found}: {explain(error)}") from error
    for name, tree in items.items():
        if digests.get(name) != digest(tree):
            raise CheckpointError(f"{root}/{found}: {name} is not what was saved: other digest")
    return Restored(found, items, metadata)


def read_metadata(root: Path, step: int) -> Metadata:
    """Returns the dict saved with a checkpoint, without reading any array.

    Raises:
      CheckpointError: it is missing, or not what was saved.
    """
    return read_sealed(root / str(step))[0]


def _set_aside_damage(root: Path) -> None:
    """Gives steps without readable metadata another name: orbax counts or stumbles over them."""
    for step in steps_in(root) if sharding.leads() else ():
        try:
            read_metadata(root, step)
        except CheckpointError:
            aside = root / f"{step}{DAMAGED}"
            shutil.rmtree(aside, ignore_errors=True)
            (root / str(step)).rename(aside)
    multihost.sync_global_processes(f"{root} is looked through")


def explain(error: BaseException) -> str:
    """Returns an error and its causes as one line, the deepest cause last."""
    parts = []
    cause: BaseException | None = error
    while cause is not None:
        parts.append(f"{type(cause).__name__}: {cause}")
        cause = cause.__cause__
    return " <- ".join(" ".join(part.split()) for part in parts)


def _shapes(tree: Any) -> Any:
    """Where a leaf is no array on a device, it is restored onto the first one."""
    first = jax.sharding.SingleDeviceSharding(jax.devices()[0])

    def shape(leaf: Any) -> jax.ShapeDtypeStruct:
        sharding = getattr(leaf, "sharding", None) or first
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(shape, tree)
