"""Frozen dataclasses of plain values: made from dicts, as files and command lines hold them."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

Made = TypeVar("Made")


def field_names(kind: type) -> list[str]:
    """Names of the fields of a dataclass, in order."""
    return [field.name for field in dataclasses.fields(kind)]


def defaults(kind: type) -> dict[str, Any]:
    """{field: default} of a dataclass; fields without a default are left out."""
    fields = dataclasses.fields(kind)
    return {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}


def annotations(kind: type) -> dict[str, Any]:
    """{field: type} of a dataclass."""
    hints = get_type_hints(kind)
    return {name: hints[name] for name in field_names(kind)}


def make(kind: type[Made], values: Mapping[str, Any], place: str) -> Made:
    """Makes a dataclass of plain values; a list, as JSON has it, becomes a tuple.

    Args:
      kind: the dataclass.
      values: of some of its fields.
      place: what an error begins with.

    Raises:
      ValueError: a name that is no field, or whatever the dataclass itself refuses.
    """
    check_names(kind, values, place)
    return kind(**{name: hashable(value) for name, value in values.items()})


def check_names(kind: type, values: Mapping[str, Any], place: str) -> None:
    """Raises ValueError, beginning with the place, for names that are no fields of a dataclass."""
    known = field_names(kind)
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(
            f"{place}: unknown option {', '.join(unknown)}; it takes {', '.join(known)}"
        )


def hashable(value: Any) -> Any:
    """A list as a tuple; anything else as it is."""
    return tuple(value) if isinstance(value, list) else value
