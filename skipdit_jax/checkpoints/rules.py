"""Weights travel by table: one list of rules names every tensor in torch's layout and in ours.

A rule pairs a torch name with one of our paths; `{i}` stands for the same number on both sides,
and so does `{j}`; `{v}` and `{w}` stand for the same name.
Each transform has an inverse, so import and export are one table and a round trip is a test.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from skipdit_jax.checkpoints.errors import CheckpointError
from skipdit_jax.trees import Shape, flatten


@dataclasses.dataclass(frozen=True)
class Transform:
    """How a tensor is laid out on the two sides; pure moves, never arithmetic.

    Attributes:
      from_torch: torch array -> ours.
      to_torch: ours -> torch array, its exact inverse.
    """

    from_torch: Callable[[np.ndarray], np.ndarray]
    to_torch: Callable[[np.ndarray], np.ndarray]

    def torch_shape(self, shape: Shape) -> Shape:
        """Returns the torch shape of a tensor of ours; nothing of that size is allocated."""
        return self.to_torch(np.broadcast_to(np.float32(0), shape)).shape


IDENTITY = Transform(lambda array: array, lambda array: array)
LINEAR = Transform(np.transpose, np.transpose)
"""torch (out, in) <-> ours [in, out]."""

CONVOLUTION = Transform(
    lambda kernel: np.moveaxis(kernel, (0, 1), (-1, -2)),
    lambda kernel: np.moveaxis(kernel, (-1, -2), (0, 1)),
)
"""torch (out, in, *size) <-> ours [*size, in, out]."""


def patch_convolution(patch: int) -> Transform:
    """A patch embedding: torch (D, C, p, p) <-> ours [p * p * C, D].

    A convolution with stride p is a linear map of each patch, which we flatten in the order row,
    column, channel.
    """

    def from_torch(kernel: np.ndarray) -> np.ndarray:
        return kernel.transpose(2, 3, 1, 0).reshape(-1, kernel.shape[0])

    def to_torch(kernel: np.ndarray) -> np.ndarray:
        return kernel.reshape(patch, patch, -1, kernel.shape[1]).transpose(3, 2, 0, 1)

    return Transform(from_torch, to_torch)


@dataclasses.dataclass(frozen=True)
class Rule:
    """One line of a weight table.

    Attributes:
      torch: name in a state dict, e.g. "blocks.{i}.attn.qkv.weight".
      ours: path in the parameter tree, e.g. "blocks_{i}/attn/qkv/kernel".
      transform: how the layouts differ.
    """

    torch: str
    ours: str
    transform: Transform = IDENTITY

    def torch_name(self, path: str) -> str | None:
        """Returns the torch name of one of our paths, or None if the rule is not about it."""
        match = _pattern(self.ours).fullmatch(path)
        return self.torch.format(**match.groupdict()) if match else None


@functools.lru_cache(maxsize=1024)
def _pattern(ours: str) -> re.Pattern[str]:
    """A path with its numbers and names open; made once, not for each leaf held against it."""
    numbered = re.sub(r"\\\{([ij])\\\}", r"(?P<\1>[0-9]+)", re.escape(ours))
    return re.compile(re.sub(r"\\\{([vw])\\\}", r"(?P<\1>[A-Za-z0-9_]+)", numbered))


def linear(torch: str, ours: str) -> tuple[Rule, Rule]:
    """The two rules of a linear layer."""
    return (
        Rule(f"{torch}.weight", f"{ours}/kernel", LINEAR),
        Rule(f"{torch}.bias", f"{ours}/bias"),
    )


@dataclasses.dataclass(frozen=True)
class Entry:
    """One tensor of a model as the two sides see it.

    Attributes:
      path: ours.
      shape: ours.
      torch_shape: torch's.
      transform: between the two.
    """

    path: str
    shape: Shape
    torch_shape: Shape
    transform: Transform


def tensor_entries(rules: Sequence[Rule], tree: Mapping[str, Any]) -> dict[str, Entry]:
    """Returns {torch name: entry} of every leaf of a parameter tree, in the order of the rules.

    Of rules about the same leaf, the first holds.

    Args:
      rules: the family's table.
      tree: arrays or `jax.ShapeDtypeStruct`.

    Raises:
      CheckpointError: leaves that no rule names; all of them are listed.
    """
    unnamed = flatten(tree)
    entries: dict[str, Entry] = {}
    for rule in rules:
        found = {path: rule.torch_name(path) for path in unnamed}
        for path, name in found.items():
            if name is not None:
                shape = tuple(unnamed.pop(path).shape)
                wanted = rule.transform.torch_shape(shape)
                entries[name] = Entry(path, shape, wanted, rule.transform)
    if unnamed:
        raise CheckpointError(f"the weight table has no rule for {', '.join(unnamed)}")
    return entries
