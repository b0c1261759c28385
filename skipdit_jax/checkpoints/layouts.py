"""How the checkpoints of one family are laid out, and which family a state dict belongs to.

A family is told by the names of its tensors, never by the file's name. The layouts themselves stand
in the records of the families (`registry`), beside everything else that is known of them.
"""

import dataclasses
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from skipdit_jax.checkpoints.dialects import Dialect
from skipdit_jax.checkpoints.errors import CheckpointError, shown
from skipdit_jax.checkpoints.rules import Rule
from skipdit_jax.trees import Shape

NOTHING = r"(?!)"  # a regular expression that no name matches
OWN_NAMES = "torch"  # what the layout of a family's own names is called
NAMES_SHOWN = 3  # of an unknown state dict


def as_it_is(table: tuple[Rule, ...], shapes: Mapping[str, Shape]) -> tuple[Rule, ...]:
    """Returns the table of a family of which all state dicts have the same names."""
    return table


def no_tables(config: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns nothing, for a family every tensor of which is trained."""
    return {}


def nothing_described(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Returns no field, for a family of which no other program writes a config.json."""
    return {}


class Claims(NamedTuple):
    """What a config asks for, by multiplication: nothing of that size is made.

    Attributes:
      blocks: of the network, each of which has tensors.
      tables: fixed tables [1, n, D] that the model computes, by torch name, with their shapes.
    """

    blocks: int = 0
    tables: Mapping[str, Shape] = {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightLayout:
    """What is needed to read and write the checkpoints of one family.

    Attributes:
      name: as native files record it.
      label: as messages call it.
      sign: regular expression of a torch name that only this family has, or that no family
        registered after it has.
      fields_of_shapes: ({torch name: shape}, num_heads) -> fields of the family's config.
      rules: config fields -> weight table.
      fixed_tables: config fields -> tensors of the state dict that are computed, not trained.
      growing: those of them [1, n, D] that a file may hold more rows of than the model uses, with
        the field of the config that counts the rows.
      respell: (weight table, {torch name: shape}) -> the table as that state dict spells it.
      dialects: other names that people have the same weights under.
      beside: regular expression of names that its files have beside the network, of no use here.
      described: a config.json of diffusers -> the fields of the config that it states and that
        names and shapes do not show.
      claims: config fields -> what is compared with a file before anything is computed.
    """

    name: str
    label: str
    sign: str
    fields_of_shapes: Callable[[Mapping[str, Shape], int | None], dict[str, Any]]
    rules: Callable[[Mapping[str, Any]], tuple[Rule, ...]]
    fixed_tables: Callable[[Mapping[str, Any]], dict[str, np.ndarray]] = no_tables
    growing: Mapping[str, str] = dataclasses.field(default_factory=dict)
    respell: Callable[[tuple[Rule, ...], Mapping[str, Shape]], tuple[Rule, ...]] = as_it_is
    dialects: tuple[Dialect, ...] = ()
    beside: str = NOTHING
    described: Callable[[Mapping[str, Any]], dict[str, Any]] = nothing_described
    claims: Callable[[Mapping[str, Any]], Claims] = lambda config: Claims()

    def knows(self, names: Collection[str]) -> bool:
        """Whether one of these names is the family's sign, in its own names or a dialect."""
        return _any_matches(self.sign, names) or self.dialect(names) is not None

    def dialect(self, names: Collection[str]) -> Dialect | None:
        """The dialect that a state dict is in; None if it has the family's own names."""
        return next((one for one in self.dialects if _any_matches(one.sign, names)), None)


class Unread(NamedTuple):
    """A family that people have files of, of use elsewhere or nowhere in this library."""

    label: str
    sign: str


UNREAD = (
    Unread("T5 text encoder", r"encoder\.block\.[0-9]+\.layer\.0\.SelfAttention\..*"),
    Unread("BERT text encoder", r"embeddings\.word_embeddings\.weight"),
    Unread("InceptionV3", r"Mixed_5b\.branch5x5_1\..*"),
    Unread("I3D", r"(params/Mixed_3b/Branch_1/|Mixed_3b\.b1a\.).*"),
    Unread("LPIPS", r"lin0\.model\.1\.weight|NetLinLayer_0/.*"),
)

Layouts = Sequence[WeightLayout]
"""Of all families, in the order in which they were registered."""


def any_sign(layouts: Layouts) -> re.Pattern[str]:
    """Returns what matches the sign of any of these families, in its own names or a dialect."""
    signs = (sign for layout in layouts for sign in (layout.sign, *_dialect_signs(layout)))
    return re.compile("|".join(f"(?:{sign})" for sign in signs) or NOTHING)


def _dialect_signs(layout: WeightLayout) -> Iterable[str]:
    return (dialect.sign for dialect in layout.dialects)


def dialect_of(layout: WeightLayout, name: str) -> Dialect | None:
    """Returns the dialect of a family that is called so; None for its own names.

    Raises:
      CheckpointError: its state dicts are in no such dialect.
    """
    if name == OWN_NAMES:
        return None
    for dialect in layout.dialects:
        if dialect.name == name:
            return dialect
    known = ", ".join((OWN_NAMES, *(dialect.name for dialect in layout.dialects)))
    raise CheckpointError(f"{layout.label} has no layout {shown(name)!r}, only {known}")


def recognise(names: Iterable[str], layouts: Layouts) -> WeightLayout:
    """Returns the layout of a state dict with these torch names.

    Of several that fit, the one registered last: it is the more special one, as Latte is a DiT with
    a table of frames.

    Raises:
      CheckpointError: another family, or none that is known.
    """
    found = list(names)
    for layout in reversed(layouts):
        if layout.knows(found):
            return layout
    for unread in UNREAD:
        if _any_matches(unread.sign, found):
            raise CheckpointError(f"is a {unread.label} checkpoint; {_readable(layouts)}")
    some = ", ".join(shown(name) for name in found[:NAMES_SHOWN])
    raise CheckpointError(f"is of no known family (it has {some}); {_readable(layouts)}")


def named(name: str, layouts: Layouts) -> WeightLayout:
    """Returns the layout of the family of that name.

    Raises:
      CheckpointError: this version does not read it.
    """
    for layout in layouts:
        if layout.name == name:
            return layout
    raise CheckpointError(f"is a {shown(name)} checkpoint; {_readable(layouts)}")


def _any_matches(sign: str, names: Iterable[str]) -> bool:
    pattern = re.compile(sign)
    return any(pattern.fullmatch(name) for name in names)


def _readable(layouts: Layouts) -> str:
    return f"this version reads {', '.join(layout.label for layout in layouts)}"
