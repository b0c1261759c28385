"""Frozen dataclasses of plain values: made from dicts, as files and command lines hold them."""

import ast
import dataclasses
import functools
import math
import numbers
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

Made = TypeVar("Made")
MAX_SEED = 2**32 - 1
"""What a key of JAX's default generator tells apart without 64-bit mode; no field holds more."""

MAX_SHOWN = 80  # characters of a value in an error: a file may hold any number of them
MAX_ERROR = 500  # characters of an error that a dataclass raises
_SCALARS: dict[Any, tuple[Any, str]] = {
    bool: (bool, "true or false"),
    int: (numbers.Integral, "a whole number"),
    float: (numbers.Real, "a finite number"),
    str: (str, "text"),
    types.NoneType: (types.NoneType, "None"),
}
"""Annotation -> what may stand there, and how an error calls it."""


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
      ValueError: a name that is no field, a value of another type than its field's (64.0 or true
        for a whole number, 7 for true, NaN), or whatever the dataclass itself refuses.
    """
    known = field_names(kind)
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(
            f"{place}: unknown option {shown(', '.join(unknown))}; it takes {', '.join(known)}"
        )
    hints = _hints(kind)  # type: ignore[arg-type]
    made = {name: typed(value, hints[name], f"{place}: {name}") for name, value in values.items()}
    try:
        return kind(**made)
    except ValueError as error:  # a dataclass repeats what it was given
        if len(str(error)) <= MAX_ERROR:
            raise
        raise ValueError(f"{str(error)[:MAX_ERROR]}...") from error


def make_from_text(kind: type[Made], fields: str, **given: Any) -> Made:
    """Makes a dataclass of what stands in the brackets of NAME(field=value, ...).

    Args:
      kind: the dataclass.
      fields: values are Python literals, nothing is executed.
      **given: values of fields that the text does not state.

    Raises:
      ValueError: in one line; it cannot be read, or the class refuses it.
    """
    try:
        call = ast.parse(f"f({fields})", mode="eval").body
        assert isinstance(call, ast.Call)
        if call.args or any(keyword.arg is None for keyword in call.keywords):
            raise ValueError("settings have names")
        settings = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
        return make(kind, {**given, **settings}, kind.__name__)
    except (SyntaxError, TypeError, ValueError, AssertionError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def long_form(name: str, made: Any, usual: Any = None) -> str:
    """NAME(field=value, ...) with the fields that differ from the usual ones; NAME if none does.

    Args:
      name: what to call it.
      made: a dataclass.
      usual: another of its class; None has the defaults.
    """
    changed = {
        field.name: value
        for field in dataclasses.fields(made)
        if (value := getattr(made, field.name))
        != (field.default if usual is None else getattr(usual, field.name))
    }
    if not changed:
        return name
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in changed.items())})"


def typed(value: Any, annotation: Any, place: str) -> Any:
    """Returns a value as plain Python has it, if it is of an annotated type.

    A whole number is a fine float, and a number of numpy one of Python; annotations of other things
    than plain values and sequences of them are not looked at.

    Args:
      value: any; a list becomes a tuple.
      annotation: resolved, such as `int | tuple[int, int]`.
      place: what an error begins with.

    Raises:
      ValueError: it is of another type.
    """
    value = hashable(value)
    kinds = _alternatives(annotation)
    for kind in kinds:
        if _fits(value, kind):
            return _plain(value, kind)
    wanted = " or ".join(_called(kind) for kind in kinds)
    if isinstance(value, numbers.Integral) and abs(int(value)) > MAX_SEED:
        wanted = f"a number of at most {MAX_SEED}"
    raise ValueError(f"{place}: found {shown(repr(value))}, wanted {wanted}")


def printable(text: str) -> str:
    """Returns foreign text in one line, without characters that would steer a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def shown(text: str, most: int = MAX_SHOWN) -> str:
    """Returns text cut to a length that fits a message."""
    return text if len(text) <= most else text[:most] + "..."


def hold(place: str, checks: Iterable[tuple[bool, str]]) -> None:
    """Raises ValueError with the first of these messages whose condition does not hold.

    Args:
      place: what the error begins with.
      checks: (what must hold, what to say otherwise).
    """
    for holds, message in checks:
        if not holds:
            raise ValueError(f"{place}: {message}")


def check_seed(seed: Any, place: str) -> int:
    """Returns a seed that nothing wraps around.

    Args:
      seed: any value.
      place: what an error begins with.

    Raises:
      ValueError: no whole number, or one of more than 32 bits.
    """
    whole = isinstance(seed, numbers.Integral) and not isinstance(seed, bool)
    if not whole or not 0 <= int(seed) <= MAX_SEED:
        raise ValueError(f"{place}: found {seed!r}, wanted a whole number from 0 to {MAX_SEED}")
    return int(seed)


def hashable(value: Any) -> Any:
    """A list as a tuple; anything else as it is."""
    return tuple(value) if isinstance(value, list) else value


@functools.lru_cache(maxsize=64)
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if _is_union(annotation) else (annotation,)


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _fits(value: Any, kind: Any) -> bool:
    if kind in _SCALARS:
        if not isinstance(value, _SCALARS[kind][0]) or isinstance(value, bool) is not (
            kind is bool
        ):
            return False
        whole = isinstance(value, numbers.Integral)
        if whole and abs(value) > MAX_SEED:
            return False
        return kind is not float or math.isfinite(value)
    if get_origin(kind) not in (tuple, Sequence):
        return True
    parts = _parts(kind, value)
    return (
        parts is not None
        and len(parts) == len(value)
        and all(
            any(_fits(one, option) for option in _alternatives(part))
            for one, part in zip(value, parts, strict=True)
        )
    )


def _parts(kind: Any, value: Any) -> Sequence[Any] | None:
    """Annotations of the elements of a sequence; None if the value is none."""
    if not isinstance(value, tuple):
        return None
    inner = get_args(kind)
    if get_origin(kind) is Sequence or inner[1:] == (...,):
        return inner[:1] * len(value)
    return inner


def _plain(value: Any, kind: Any) -> Any:
    if kind is int:
        return int(value)
    return float(value) if kind is float else value


def _called(kind: Any) -> str:
    if kind in _SCALARS:
        return _SCALARS[kind][1]
    inner = [part for part in get_args(kind) if part is not ...]
    count = (
        "" if get_args(kind)[1:] == (...,) or get_origin(kind) is Sequence else f"{len(inner)} x "
    )
    return f"a list of {count}{_called(inner[0])}" if inner else str(kind)
