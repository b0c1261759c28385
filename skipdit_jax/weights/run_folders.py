"""Weights of a run folder: the exported average, or those of a checkpoint that is kept."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from skipdit_jax.checkpoints import Checkpoint, CheckpointError, store
from skipdit_jax.checkpoints.handles import TensorHandle, contiguous_strides
from skipdit_jax.registry import FAMILIES, abstract_params
from skipdit_jax.training.state import ema_name
from skipdit_jax.trees import flatten
from skipdit_jax.typing import Params
from skipdit_jax.weights.networks import RUN_WEIGHTS, network_of, open_known

CHECKPOINTS = "checkpoints"
RAW = "model"
"""The weights that the optimiser works on, as files of torch call them."""


@dataclasses.dataclass(frozen=True)
class _Loaded(TensorHandle):
    """A tensor that is in memory already."""

    array: np.ndarray

    def read(self) -> np.ndarray:
        """Returns it."""
        return self.array


def is_of_run(path: Path) -> bool:
    """Whether a path is a run folder, or one of its checkpoints."""
    return (path / RUN_WEIGHTS).is_file() or _is_of_step(path)


def _is_of_step(path: Path) -> bool:
    return path.is_dir() and path.parent.name == CHECKPOINTS and path.name.isdecimal()


def open_run(path: Path, which: str | None = None) -> Checkpoint:
    """Opens weights of a run.

    Args:
      path: a run folder, for its newest weights; or RUN/checkpoints/STEP.
      which: "model" for the raw weights, which only checkpoints have; None or "ema" for the average
        of the first decay.

    Raises:
      CheckpointError: it is no such folder, or the checkpoint is not intact.
    """
    of_step = _is_of_step(path)
    run = path.parents[1] if of_step else path
    if not (run / RUN_WEIGHTS).is_file():
        raise CheckpointError(f"{path}: found no {RUN_WEIGHTS}, wanted a run folder or a file")
    exported = open_known(run / RUN_WEIGHTS)
    if not of_step and which != RAW:
        return exported
    root = run / CHECKPOINTS
    step = int(path.name) if of_step else store.latest_step(root)
    if step is None:
        raise CheckpointError(f"{root}: holds no checkpoint, and only those have raw weights")
    saved = _read(root, step, exported, which == RAW)
    handles = {name: _handle(root / str(step), np.asarray(leaf)) for name, leaf in saved.items()}
    training = {**exported.metadata.get("training", {}), "step": step}
    metadata = {**exported.metadata, "training": training}
    return dataclasses.replace(exported, path=root / str(step), handles=handles, metadata=metadata)


def _read(root: Path, step: int, exported: Checkpoint, raw: bool) -> Params:
    shapes = abstract_params(network_of(exported, FAMILIES, "a diffusion model"))
    if raw:
        return flatten(store.restore(root, {"params": shapes}, step).items["params"])
    config: dict[str, Any] = store.read_metadata(root, step)["config"]
    names = [ema_name(decay) for decay in (config["ema_decay"], *config["ema_extra"])]
    floats = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, np.float32), shapes)
    items = {"ema": dict.fromkeys(names, floats)}
    return flatten(store.restore(root, items, step).items["ema"][names[0]])


def _handle(path: Path, array: np.ndarray) -> TensorHandle:
    return _Loaded(path, 0, array.dtype, array.shape, contiguous_strides(array.shape), array)
