"""Finds the weights inside whatever a training script saved around them."""

import re
from typing import Any

from skipdit_jax.checkpoints.errors import CheckpointError, printable, shown
from skipdit_jax.checkpoints.handles import TensorHandle
from skipdit_jax.checkpoints.records import TensorRecord
from skipdit_jax.checkpoints.torch_files import TorchFile

WRAPPED = ("ema", "model")
"""Keys of a training checkpoint that hold weights, the preferred one first."""

BARE = "bare"
"""What `choose` calls a file that holds one state dict and nothing around it."""

PREFIX = re.compile(r"(?:module\.|_orig_mod\.)+")  # of DistributedDataParallel and torch.compile

MAX_NAME = 256  # characters; the longest published name has 70


def choose(file: TorchFile, weights: str | None) -> tuple[str, dict[str, TensorHandle]]:
    """Returns which weights were taken ("ema", "model" or "bare") and their tensors by name.

    Args:
      file: {model, ema, opt, args}, {ema}, {model, ema}, {model}, or a bare state dict.
      weights: "ema" or "model" if it must be that one; None takes ema if there, else model. A bare
        state dict does not say what it is, so it is taken for either.

    Raises:
      CheckpointError: no weights there, or not those asked for.
    """
    content = file.content
    if not isinstance(content, dict):
        raise CheckpointError(f"holds a {type(content).__name__}, wanted a dict of tensors")
    present = [key for key in WRAPPED if isinstance(content.get(key), dict)]
    if not present:
        return BARE, _tensors(file, content, "")
    which = weights or present[0]
    if which not in present:
        raise CheckpointError(f"holds no {which!r} weights, only {' and '.join(present)}")
    return which, _tensors(file, content[which], f"{which!r}: ")


def beside(file: TorchFile, which: str) -> tuple[str, ...]:
    """Returns the keys of a training checkpoint apart from the weights chosen, fit to be shown."""
    return tuple(printable(_label(key)) for key in file.content if key != which)


def strip_prefixes(name: str) -> str:
    """Returns a name without what wrappers of the module put before it.

    >>> strip_prefixes("module._orig_mod.blocks.0.attn.qkv.weight")
    'blocks.0.attn.qkv.weight'
    """
    return PREFIX.sub("", name, count=1) if PREFIX.match(name) else name


def stripped(state: dict[str, Any]) -> dict[str, Any]:
    """Returns the state with `strip_prefixes` on all names.

    Raises:
      CheckpointError: two names become one.
    """
    renamed = {strip_prefixes(name): value for name, value in state.items()}
    if len(renamed) != len(state):
        raise CheckpointError("has names that differ only in a prefix such as module.")
    return renamed


def _tensors(file: TorchFile, state: dict[Any, Any], where: str) -> dict[str, TensorHandle]:
    strange = [_label(name) for name, value in state.items() if not _is_entry(name, value)]
    if strange or not state:
        listed = ", ".join(strange) or "nothing"
        raise CheckpointError(f"{where}is no state dict: holds {listed} instead of named tensors")
    return {name: file.handle(record) for name, record in stripped(state).items()}


def _is_entry(name: Any, value: Any) -> bool:
    return isinstance(name, str) and len(name) <= MAX_NAME and isinstance(value, TensorRecord)


def _label(name: Any) -> str:
    return shown(name) if isinstance(name, str) else f"a key of type {type(name).__name__}"
