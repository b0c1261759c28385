"""Path names of nested parameter dicts: flatten, rebuild, compare.

A path joins the keys from the root with slashes: "blocks_0/attn/qkv/kernel".
"""

import fnmatch
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

Shape = tuple[int, ...]


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Returns {path: leaf}, sorted by path; anything that is no mapping is a leaf.

    Raises:
      ValueError: a key that is no string, is empty or holds a slash, or an empty subtree: paths
        could not name it.

    >>> flatten({"b": {"kernel": 1, "bias": 2}, "a": 3})
    {'a': 3, 'b/bias': 2, 'b/kernel': 1}
    """
    return dict(sorted(_leaves(tree, "")))


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the nested dict of {path: leaf}; the inverse of `flatten`.

    Raises:
      ValueError: a path is at once a leaf and a subtree, or has an empty part.

    >>> unflatten({"a": 3, "b/bias": 2})
    {'a': 3, 'b': {'bias': 2}}
    """
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, name = path.split("/")
        node: Any = tree
        for key in parents:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise ValueError(f"trees.unflatten: {path!r} goes through a leaf, {key!r}")
        if name in node or not all((*parents, name)):
            raise ValueError(f"trees.unflatten: {path!r} is taken already or has an empty part")
        node[name] = leaf
    return tree


def matches_glob(name: str, patterns: Iterable[str]) -> bool:
    """Whether a whole name or path fits one of the shell patterns; `*` also spans slashes.

    >>> matches_glob("skip_fusions_0/norm/scale", ["skip_*"])
    True
    """
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


class Misfits(NamedTuple):
    """How the names and shapes found differ from those wanted.

    Attributes:
      missing: wanted, not found.
      surplus: found, not wanted.
      misshapen: (name, shape found, shape wanted).
    """

    missing: tuple[str, ...]
    surplus: tuple[str, ...]
    misshapen: tuple[tuple[str, Shape, Shape], ...]

    def __str__(self) -> str:
        """All of them in one line; empty if everything fits."""
        wrong = [f"{name} has shape {found}, wanted {want}" for name, found, want in self.misshapen]
        groups = (("missing", self.missing), ("surplus", self.surplus), ("misshapen", wrong))
        return "; ".join(
            f"{len(names)} {label}: {', '.join(names)}" for label, names in groups if names
        )


def compare(found: Mapping[str, Shape], wanted: Mapping[str, Shape]) -> Misfits:
    """Compares {name: shape} as found with {name: shape} as wanted; names in the given order.

    >>> str(compare({"a": (2,), "x": ()}, {"a": (3,), "b": ()}))
    '1 missing: b; 1 surplus: x; 1 misshapen: a has shape (2,), wanted (3,)'
    """
    return Misfits(
        missing=tuple(name for name in wanted if name not in found),
        surplus=tuple(name for name in found if name not in wanted),
        misshapen=tuple(
            (name, tuple(found[name]), tuple(shape))
            for name, shape in wanted.items()
            if name in found and tuple(found[name]) != tuple(shape)
        ),
    )


def _leaves(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if not isinstance(key, str) or not key or "/" in key:
            raise ValueError(
                f"trees.flatten: key {key!r} below {prefix!r} cannot be part of a path"
            )
        if not isinstance(value, Mapping):
            yield prefix + key, value
        elif value:
            yield from _leaves(value, f"{prefix}{key}/")
        else:
            raise ValueError(f"trees.flatten: {prefix + key!r} is an empty subtree")
