"""Names and types of a config's values: what may be typed on a command line, and what fits.

The dataclasses behind a config say both. A `Table` has {"": names of the config itself, "data":
those of that section, ...}, each {name: annotation}.
"""

import difflib
import json
import types
from collections.abc import Iterator, Mapping
from typing import Any, Union, get_args, get_origin

import ml_collections
from ml_collections import FieldReference

from skipdit_jax import config as plain

Table = Mapping[str, Mapping[str, Any]]

PLAIN = (bool, int, float, str, tuple)


def read_values(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """All values of a config, as JSON holds them.

    Raises:
      ValueError: names the first value that JSON cannot hold.
    """
    for dotted, value in _leaves(config.to_dict()):
        if value is not None and not isinstance(value, bool | int | float | str):
            kind = type(value).__name__
            raise ValueError(f"{dotted}: found {kind}, wanted numbers, text, lists or None")
    return dict(json.loads(config.to_json()))


def _leaves(values: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    pairs = values.items() if isinstance(values, Mapping) else enumerate(values)
    for name, value in pairs:
        dotted = f"{place}.{name}".removeprefix(".")
        if isinstance(value, Mapping | list | tuple):
            yield from _leaves(value, dotted)
        else:
            yield dotted, value


def check_values(values: Mapping[str, Any], table: Table) -> None:
    """Makes sure that known names hold what their annotations say; unknown names are not looked at.

    Args:
      values: of a config, as JSON has them.
      table: what to compare with.

    Raises:
      ValueError: names the first value that does not fit.
    """
    for section, known in table.items():
        held = values.get(section, {}) if section else values
        if not isinstance(held, Mapping):
            raise ValueError(f"{section}: found {held!r}, wanted names and values")
        for name in known.keys() & held.keys():
            plain.typed(held[name], known[name], _dotted(section, name))


def open_fields(
    config: ml_collections.ConfigDict, table: Table, typed: Mapping[str, str | None]
) -> None:
    """Makes places in a config for values that flags are going to set.

    Args:
      config: changed in place: a name that it lacks, or holds with a narrower type, gets the type
        of its annotation. Values stay.
      table: names and types.
      typed: dotted name -> text of its value, None where it is not known.

    Raises:
      ValueError: a name that neither the config nor the table has.
    """
    with config.unlocked():
        for dotted, text in typed.items():
            section, _, name = dotted.rpartition(".")
            if (not section and name in table) or not dotted.replace(".", "_").isidentifier():
                continue  # a whole section, or an element such as trainable[0]
            known = table.get(section, {})
            if name not in known:
                if _holds(config, dotted):
                    continue  # whoever reads the config has to know it
                raise ValueError(_unknown(section, name, table))
            if section and section not in config:
                config[section] = ml_collections.ConfigDict()
            holder = config[section] if section else config
            if isinstance(holder, ml_collections.ConfigDict):
                _widen(holder, name, _kind(known[name], text))


def _holds(config: Any, dotted: str) -> bool:
    for name in dotted.split("."):
        if not isinstance(config, ml_collections.ConfigDict) or name not in config:
            return False
        config = config[name]
    return True


def _widen(holder: ml_collections.ConfigDict, name: str, kind: type) -> None:
    if name in holder and holder.get_type(name) is kind:
        return
    value = holder.get(name)
    if kind in (float, tuple) and isinstance(value, int | float | list | tuple):
        value = tuple(value) if isinstance(value, list) else value
        value = float(value) if kind is float and not isinstance(value, tuple) else value
    if name in holder:
        del holder[name]
    holder[name] = FieldReference(value if isinstance(value, kind) else None, field_type=kind)


def _kind(annotation: Any, text: str | None) -> type:
    """The type that a flag reads: object reads any literal."""
    members = _members(annotation)
    some = [member for member in members if member is not types.NoneType]
    if set(some) == {int, float}:
        some = [float]
    if len(some) > 1 or (text == "None" and len(members) > len(some)):
        return object
    kind = get_origin(some[0]) or some[0]
    return kind if kind in PLAIN else object


def _members(annotation: Any) -> tuple[Any, ...]:
    union = get_origin(annotation) in (Union, types.UnionType)
    return get_args(annotation) if union else (annotation,)


def _unknown(section: str, name: str, table: Table) -> str:
    if section not in table:
        section, name, known = "", section, [key for key in table if key]
    else:
        known = [*table[section], *(key for key in table if key and not section)]
    elsewhere = [_dotted(other, name) for other in table if name in table[other]]
    close = [_dotted(section, key) for key in difflib.get_close_matches(name, known, 1)]
    meant = f", did you mean --config.{(elsewhere or close)[0]}?" if elsewhere or close else ";"
    return f"--config.{_dotted(section, name)}: no such name{meant} It takes {', '.join(known)}"


def _dotted(section: str, name: str) -> str:
    return f"{section}.{name}" if section else name
