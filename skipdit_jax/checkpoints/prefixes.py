"""What wrappers of a module put before the names of its tensors, and how to see past it."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from skipdit_jax.checkpoints.errors import CheckpointError, shown
from skipdit_jax.checkpoints.layouts import Layouts, any_sign

WRAPPERS = re.compile(r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""Of torch.compile, FSDP and activation checkpointing, which wrap any part of a module."""

PARALLEL = re.compile(r"(?:module\.)+")  # of DistributedDataParallel and AveragedModel
COUNTER = "n_averaged"  # which AveragedModel saves beside its module
AVERAGED = re.compile(r"ema|averaged?(?=[._])|avg", re.IGNORECASE)
"""What names of averaged weights have in them, and names of raw ones do not."""

MAX_PARTS = 5  # of a prefix that is found without being told
SHOWN = 4  # prefixes in a message

T = TypeVar("T")


class Named(NamedTuple):
    """A state dict without what stood before its names.

    Attributes:
      prefix: what was dropped, beyond wrappers that never matter.
      state: {name: value}.
      left: names that do not begin with it.
    """

    prefix: str
    state: dict[str, Any]
    left: tuple[str, ...]


def strip_wrappers(name: str) -> str:
    """Returns a name without what torch's own wrappers of a module put into it.

    >>> strip_wrappers("module._orig_mod.blocks.0._checkpoint_wrapped_module.attn.qkv.weight")
    'blocks.0.attn.qkv.weight'
    """
    bare = WRAPPERS.sub("", name)
    return PARALLEL.sub("", bare, count=1) if PARALLEL.match(bare) else bare


def without_prefix(
    state: Mapping[str, T], layouts: Layouts, prefix: str | None = None, averaged: bool = True
) -> Named:
    """Returns the state dict of one network out of what a larger module saved.

    Args:
      state: {name: value}.
      layouts: of the families that it may belong to.
      prefix: what its names begin with; None finds it by the signs of the families.
      averaged: which to prefer of two that are there, such as "ema_model." and "online_model.".

    Raises:
      CheckpointError: no name begins so, several prefixes would do, or two names become one.
    """
    if prefix is not None:
        return _begin_with(dict(state), prefix)
    renamed = {strip_wrappers(name): value for name, value in state.items()}
    if len(renamed) != len(state):
        raise CheckpointError("has names that differ only in a prefix such as module.")
    if COUNTER in state and all(PARALLEL.match(name) for name in state if name != COUNTER):
        del renamed[COUNTER]
    sign = any_sign(layouts)
    found = sorted({place for name in renamed for place in _places(name, sign)})
    if not found or "" in found:
        return Named("", renamed, ())
    if len(found) > 1:
        found = [place for place in found if bool(AVERAGED.search(place)) == averaged] or found
    if len(found) > 1:
        raise CheckpointError(
            f"holds several networks, their names begin with {', '.join(found[:SHOWN])}: say which "
            "with --prefix (prefix=)"
        )
    return _begin_with(renamed, found[0])


def _begin_with(state: dict[str, Any], prefix: str) -> Named:
    kept = {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }
    if not kept:
        some = ", ".join(shown(name) for name in list(state)[:SHOWN])
        raise CheckpointError(f"has no name that begins with {shown(prefix)!r}: it has {some}")
    left = tuple(name for name in state if not name.startswith(prefix))
    clean = {strip_wrappers(name): value for name, value in kept.items()}
    return Named(prefix, clean if len(clean) == len(kept) else kept, left)


def _places(name: str, sign: re.Pattern[str]) -> list[str]:
    """Every prefix behind which the rest of a name is the sign of a family."""
    places, at = [], 0
    for _ in range(MAX_PARTS + 1):
        if sign.fullmatch(name, at):
            places.append(name[:at])
        at = name.find(".", at) + 1
        if not at:
            break
    return places
