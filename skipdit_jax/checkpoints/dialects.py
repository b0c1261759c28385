"""Other names for the tensors of a family, told by a table that is read in both directions.

A file in a dialect is seen through its table: everything else knows a family's own names only.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from skipdit_jax.checkpoints.arrays import PIECE_BYTES, ArraySpec
from skipdit_jax.checkpoints.errors import CheckpointError
from skipdit_jax.checkpoints.handles import TensorHandle, scratch

COPY, PARTS, COPIES, POINTWISE = "copy", "parts", "copies", "pointwise"
PART, HALVES = "part", "halves"
KERNEL, VECTOR = "kernel", "vector"


@dataclasses.dataclass(frozen=True)
class Line:
    """One tensor of a family and what a dialect has for it.

    Attributes:
      own: its name in the family's layout.
      theirs: names in the dialect.
      how: COPY: one tensor, the same. PARTS: it is theirs one after the other, along axis 0, all of
        one size. COPIES: each of theirs is the same. POINTWISE: theirs is a 1x1 convolution
        (out, in, 1, 1), which the family's rules take where their own is a linear (out, in).
        PART: it is one of several equal parts of theirs along axis 0; each has a line. HALVES:
        theirs has the two halves along axis 0 the other way round. KERNEL: theirs is a convolution
        of flax (*size, in, out), ours one of torch (out, in, *size). VECTOR: theirs may have axes
        of length 1 in front.
      part: of PART, which of how many, (2, 3) for the last of three.
    """

    own: str
    theirs: tuple[str, ...]
    how: str = COPY
    part: tuple[int, int] = (0, 1)


def nothing_told(handles: Mapping[str, TensorHandle]) -> dict[str, Any]:
    """Returns no field, for a dialect whose files show all in the network's own tensors."""
    return {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dialect:
    """Other names for the state dicts of a family.

    Attributes:
      name: as `--to` calls it.
      sign: regular expression of a name that only this dialect has.
      measure: names of a state dict in the dialect -> what the table depends on, such as the depth.
      size: fields of the config -> the same.
      table: of that size, every tensor that both have.
      untold: tensors of the family that the dialect leaves to be computed.
      beside: regular expression of names that its files have beside the network, of no use to it.
      told: all tensors of a file -> fields of the config that those beside the network show.
      null_text: of these, the embeddings that stand for no text, [L,E]; "" where there are none.
    """

    name: str
    sign: str
    measure: Callable[[Iterable[str]], Any]
    size: Callable[[Mapping[str, Any]], Any]
    table: Callable[[Any], tuple[Line, ...]]
    untold: tuple[str, ...] = ()
    beside: str = r"(?!)"  # none
    told: Callable[[Mapping[str, TensorHandle]], dict[str, Any]] = nothing_told
    null_text: str = ""


def parts_of(whole: str, owns: Iterable[str]) -> list[Line]:
    """The lines of tensors of a family that are equal parts of one of the dialect, in its order."""
    names = list(owns)
    return [Line(own, (whole,), PART, (i, len(names))) for i, own in enumerate(names)]


def depth_before_gap(names: Iterable[str], block: str) -> int:
    """Returns how many blocks there are before the first gap; `block` matches one and its number.

    >>> depth_before_gap(["blocks.0.w", "blocks.1.w", "blocks.9.w"], r"blocks[.]([0-9]+)[.]")
    2
    """
    found = {int(match[1]) for name in names if (match := re.match(block, name))}
    return next(depth for depth in itertools.count() if depth not in found)


@dataclasses.dataclass(frozen=True)
class Joined(TensorHandle):
    """Several tensors of a file as one, along axis 0.

    Attributes:
      parts: the tensors.
    """

    parts: tuple[TensorHandle, ...] = ()

    def read(self) -> np.ndarray:
        """Returns the whole; errors are those of `TensorHandle.read`."""
        whole = scratch(self.shape, self.dtype)
        start = 0
        for part in self.parts:
            whole[start : start + part.shape[0]] = part.read()
            start += part.shape[0]
        return whole


@dataclasses.dataclass(frozen=True)
class Repeated(TensorHandle):
    """One tensor that a file has several times.

    Attributes:
      names: of all.
      parts: all of them.
    """

    names: tuple[str, ...] = ()
    parts: tuple[TensorHandle, ...] = ()

    def read(self) -> np.ndarray:
        """Returns it.

        Raises:
          CheckpointError: one of them differs: then the file holds another network.
        """
        first = self.parts[0].read()
        for name, part in zip(self.names[1:], self.parts[1:], strict=True):
            if part != self.parts[0] and not _has_bits(part, first):
                raise CheckpointError(f"{name} differs from {self.names[0]}, wanted a copy of it")
        return first


def _has_bits(part: TensorHandle, wanted: np.ndarray) -> bool:
    """Whether a tensor of a file is this one; never more than a piece of it is in memory."""
    rows = max(1, len(wanted) * PIECE_BYTES // max(wanted.nbytes, 1))
    step = part.strides[0] * part.dtype.itemsize
    for at in range(0, len(wanted), rows):
        ours = wanted[at : at + rows]
        piece = dataclasses.replace(part, start=part.start + at * step, shape=ours.shape)
        if piece.read().tobytes() != ours.tobytes():
            return False
    return True


def to_own(dialect: Dialect, handles: Mapping[str, TensorHandle]) -> dict[str, TensorHandle]:
    """Returns the tensors of a file by the family's names; those of no line keep their own.

    Raises:
      CheckpointError: tensors that belong together and do not fit each other.
    """
    own: dict[str, TensorHandle] = {}
    taken: set[str] = set()
    for line in dialect.table(dialect.measure(handles)):
        parts = tuple(handles[name] for name in line.theirs if name in handles)
        if len(parts) == len(line.theirs):
            own[line.own] = _united(line, parts)
            taken.update(line.theirs)
    return {**own, **{name: handle for name, handle in handles.items() if name not in taken}}


def from_own(
    dialect: Dialect, tensors: Mapping[str, ArraySpec], config: Mapping[str, Any]
) -> dict[str, ArraySpec]:
    """Returns the tensors of a state dict by the dialect's names; the inverse of `to_own`.

    Raises:
      CheckpointError: some have no name there.
    """
    lines = _by_own_name(dialect, dialect.size(config))
    strange = [name for name in tensors if name not in lines and name not in dialect.untold]
    if strange:
        raise CheckpointError(f"{dialect.name} has no names for {', '.join(strange)}")
    spelt: dict[str, ArraySpec] = {}
    parts: dict[tuple[str, int], dict[int, ArraySpec]] = {}
    for name, spec in tensors.items():
        if name in lines and lines[name].how == PART:
            number, count = lines[name].part
            parts.setdefault((lines[name].theirs[0], count), {})[number] = spec
        elif name in lines:
            spelt |= _divided(lines[name], spec)
    return spelt | {name: _whole(name, found, count) for (name, count), found in parts.items()}


def told_together(dialect: Dialect, name: str, config: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the tensors of a family that make one of the dialect with this one, in its order."""
    lines = _by_own_name(dialect, dialect.size(config))
    if name not in lines or lines[name].how != PART:
        return (name,)
    same = [line for line in lines.values() if line.theirs == lines[name].theirs]
    return tuple(line.own for line in sorted(same, key=lambda line: line.part))


@functools.cache
def _by_own_name(dialect: Dialect, size: Any) -> Mapping[str, Line]:
    """The table of a size, made once: writing asks for each row."""
    return {line.own: line for line in dialect.table(size)}


def _united(line: Line, parts: tuple[TensorHandle, ...]) -> TensorHandle:
    first = parts[0]
    for name, part in zip(line.theirs, parts, strict=True):
        if (part.shape, part.dtype) != (first.shape, first.dtype) or not part.shape:
            raise CheckpointError(
                f"{name} has shape {part.shape} and type {part.dtype}, {line.theirs[0]} has shape "
                f"{first.shape} and type {first.dtype}: wanted the same"
            )
    place = (first.path, first.start, first.dtype)
    if line.how == PARTS:
        shape = (len(parts) * first.shape[0], *first.shape[1:])
        return Joined(*place, shape, first.strides, parts)
    if line.how == PART:
        return _stretch(first, line.theirs[0], *line.part)
    if line.how == HALVES:
        halves = tuple(_stretch(first, line.theirs[0], number, 2) for number in (1, 0))
        return Joined(*place, first.shape, first.strides, halves)
    if line.how == KERNEL:
        return _axes(first, (-1, -2, *range(len(first.shape) - 2)))
    if line.how == VECTOR and set(first.shape[:-1]) <= {1}:
        return _axes(first, (-1,))
    if line.how == COPIES:
        return Repeated(*place, first.shape, first.strides, line.theirs, parts)
    return first


def _axes(whole: TensorHandle, axes: tuple[int, ...]) -> TensorHandle:
    """A tensor of a file by some of its axes, in this order."""
    shape, strides = (tuple(of[axis] for axis in axes) for of in (whole.shape, whole.strides))
    return dataclasses.replace(whole, shape=shape, strides=strides)


def _stretch(whole: TensorHandle, name: str, number: int, count: int) -> TensorHandle:
    """One of several equal parts of a tensor of a file."""
    rows, left = divmod(whole.shape[0], count) if whole.shape else (0, 1)
    if left:
        raise CheckpointError(f"{name} has shape {whole.shape}, wanted {count} equal parts of it")
    start = whole.start + number * rows * whole.strides[0] * whole.dtype.itemsize
    return dataclasses.replace(whole, start=start, shape=(rows, *whole.shape[1:]))


def _whole(name: str, parts: Mapping[int, ArraySpec], count: int) -> ArraySpec:
    """The tensor that all parts make."""
    if len(parts) != count:
        raise CheckpointError(f"{name} is of {count} tensors, of which {len(parts)} are there")
    specs = [parts[number] for number in range(count)]
    shape = (sum(spec.shape[0] for spec in specs), *specs[0].shape[1:])

    def value() -> np.ndarray:
        return np.concatenate([spec.value().reshape(spec.shape) for spec in specs])

    return dataclasses.replace(specs[0], shape=shape, value=value)


def _divided(line: Line, spec: ArraySpec) -> dict[str, ArraySpec]:
    if line.how == PARTS:
        return dict(_slices(line, spec))
    if line.how == HALVES:
        return {line.theirs[0]: _exchanged(spec)}
    if line.how == KERNEL:
        spec = _as_of_flax(spec)
    if line.how == POINTWISE and len(spec.shape) == 2:  # biases stay as they are
        shape = (*spec.shape, 1, 1)
        spec = dataclasses.replace(spec, shape=shape)
    return dict.fromkeys(line.theirs, spec)


def _as_of_flax(spec: ArraySpec) -> ArraySpec:
    """(out, in, *size) as (*size, in, out)."""
    shape = (*spec.shape[2:], spec.shape[1], spec.shape[0])

    def value() -> np.ndarray:
        return np.moveaxis(spec.value().reshape(spec.shape), (1, 0), (-2, -1))

    return dataclasses.replace(spec, shape=shape, value=value)


def _exchanged(spec: ArraySpec) -> ArraySpec:
    """The second half before the first."""

    def value() -> np.ndarray:
        return np.concatenate(np.split(spec.value().reshape(spec.shape), 2)[::-1])

    return dataclasses.replace(spec, value=value)


def _slices(line: Line, spec: ArraySpec) -> Iterable[tuple[str, ArraySpec]]:
    rows = spec.shape[0] // len(line.theirs)
    for number, name in enumerate(line.theirs):

        def value(start: int = number * rows) -> np.ndarray:
            return spec.value().reshape(spec.shape)[start : start + rows]

        yield name, dataclasses.replace(spec, shape=(rows, *spec.shape[1:]), value=value)
