"""Frozen dataclasses of plain values: made from dicts, as files and command lines hold them."""

import dataclasses
from collections.abc import Mapping
from numbers import Integral
from typing import Any, TypeVar, get_type_hints

Made = TypeVar("Made")
MAX_SEED = 2**32 - 1  # what a key of JAX's default generator distinguishes without 64-bit mode


def field_names(kind: type) -> list[str]:
    """Names of the fields of a dataclass, in order."""
    return [field.name for field in dataclasses.fields(kind)]


def annotations(kind: type) -> dict[str, Any]:
    """{field: type} of a dataclass."""
    hints = get_type_hints(kind)
    return {name: hints[name] for name in field_names(kind)}


def defaults(kind: type) -> dict[str, Any]:
    """{field: default} of a dataclass; fields without a default are left out."""
    fields = dataclasses.fields(kind)
    return {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}


def make(kind: type[Made], values: Mapping[str, Any], place: str) -> Made:
    """Makes a dataclass of plain values; a list, as JSON has it, becomes a tuple.

    Args:
      kind: the dataclass.
      values: of some of its fields.
      place: what an error begins with.

    Raises:
      ValueError: a name that is no field, or whatever the dataclass itself refuses.
    """
    known = field_names(kind)
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(
            f"{place}: unknown option {', '.join(unknown)}; it takes {', '.join(known)}"
        )
    return kind(**{name: hashable(value) for name, value in values.items()})


def check_seed(seed: Any, place: str) -> int:
    """Returns a seed that nothing wraps around.

    Args:
      seed: any value.
      place: what an error begins with.

    Raises:
      ValueError: no whole number, or one of more than 32 bits.
    """
    whole = isinstance(seed, Integral) and not isinstance(seed, bool)
    if not whole or not 0 <= int(seed) <= MAX_SEED:
        raise ValueError(f"{place}: found {seed!r}, wanted a whole number from 0 to {MAX_SEED}")
    return int(seed)


def hashable(value: Any) -> Any:
    """A list as a tuple; anything else as it is."""
    return tuple(value) if isinstance(value, list) else value
