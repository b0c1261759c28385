"""Finds the weights inside whatever a training script saved around them."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from skipdit_jax.checkpoints.errors import CheckpointError, printable, shown
from skipdit_jax.checkpoints.handles import TensorHandle
from skipdit_jax.checkpoints.layouts import Layouts
from skipdit_jax.checkpoints.prefixes import AVERAGED, without_prefix
from skipdit_jax.checkpoints.records import Record, Symbol, TensorRecord
from skipdit_jax.checkpoints.torch_files import TorchFile

AVERAGED_KEYS = (
    "ema",
    "model_ema",
    "ema_model",
    "ema_state_dict",
    "model_ema_state_dict",
    "ema_model_state_dict",
    "state_dict_ema",
    "averaged_model",
)
RAW_KEYS = ("model", "state_dict", "model_state_dict", "net", "network", "module", "weights")
WRAPPED = ("ema", "model")
"""What a user may ask for: averaged weights, which are preferred, or raw ones; and the first of the
keys above."""

BARE = "bare"
"""What `choose` calls a file that holds one state dict and nothing around it."""

STEP = "/"  # between the keys of --key
MAX_DEPTH = 3  # of dicts around the weights
MAX_NAME = 256  # characters; the longest published name has 70
MAX_REPEATED_BYTES = 2**28  # of weights that repeat their storage, together
SHOWN = 4  # names or keys in a message


class Ask(NamedTuple):
    """Which weights of a file a user wants; what is None is found.

    Attributes:
      weights: "ema" or "model".
      key: of the dict that holds them, "outer/inner" of nested ones.
      prefix: what the names of their tensors begin with.
    """

    weights: str | None = None
    key: str | None = None
    prefix: str | None = None


class Chosen(NamedTuple):
    """The weights taken.

    Attributes:
      which: the key of the dict that holds them, or "bare".
      handles: their tensors by name.
      others: what else the file holds, fit to be shown.
      notes: what a user should know of the choice.
    """

    which: str
    handles: dict[str, TensorHandle]
    others: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def choose(file: TorchFile, ask: Ask, layouts: Layouts) -> Chosen:
    """Returns the weights that were asked for, else averaged ones if there are any, else raw ones.

    Args:
      file: a state dict, bare or below keys such as "ema", "model_ema", "model", "state_dict".
      ask: what the user says. A bare state dict does not say what it is, so it is taken for either.
      layouts: of the families that it may belong to.

    Raises:
      CheckpointError: no weights there, not those asked for, or several.
    """
    content = file.content
    if isinstance(content, Record):
        raise CheckpointError(f"is an object of {shown(content.name)}: {_SAVE}")
    if not isinstance(content, dict):
        raise CheckpointError(f"holds a {type(content).__name__}, wanted a dict of tensors")
    notes: list[str] = []
    if ask.key is not None:
        path, state = _at(content, ask.key)
    else:
        path, state = _find(content, ask.weights, layouts, notes)
    handles = _tensors(file, state, ask, layouts, STEP.join(path), notes)
    others = tuple(printable(_label(key)) for key in content if path and key != path[0])
    return Chosen(STEP.join(path) or BARE, handles, others, tuple(notes))


def describe_names(
    tensors: Mapping[str, Any], ask: Ask, layouts: Layouts, notes: list[str]
) -> dict[str, Any]:
    """Returns tensors by names without prefixes, and notes what was dropped.

    Raises:
      CheckpointError: see `prefixes.without_prefix`.
    """
    named = without_prefix(tensors, layouts, ask.prefix, ask.weights != "model")
    if named.prefix and ask.prefix is None:
        notes.append(f"names that begin with {shown(named.prefix)} are taken as the network's")
    if named.left:
        some = ", ".join(shown(name) for name in named.left[:SHOWN])
        notes.append(f"{len(named.left)} tensors of other names are left out: {some}")
    return named.state


_SAVE = "save its state_dict() to have weights that can be read"


def _at(content: dict[Any, Any], key: str) -> tuple[tuple[str, ...], dict[Any, Any]]:
    """The dict at a key, or at "outer/inner"."""
    path = (key,) if key in content else tuple(key.split(STEP))
    node: Any = content
    for part in path:
        if not isinstance(node, dict) or part not in node:
            keys = ", ".join(map(_label, list(node)[:SHOWN])) if isinstance(node, dict) else "none"
            raise CheckpointError(f"has no key {shown(key)!r}: it has {keys}")
        node = node[part]
    if not isinstance(node, dict):
        raise CheckpointError(f"{shown(key)!r} is a {_kind(node)}, wanted a dict of tensors")
    return path, node


def _find(
    node: dict[Any, Any], weights: str | None, layouts: Layouts, notes: list[str], depth: int = 0
) -> tuple[tuple[str, ...], dict[Any, Any]]:
    """Where the weights are: (keys, dict)."""
    keys = {"ema": _first(node, AVERAGED_KEYS, notes), "model": _first(node, RAW_KEYS, notes)}
    present = {kind: key for kind, key in keys.items() if key is not None}
    if present and weights is not None and weights not in present:
        held = " and ".join(present.values())
        raise CheckpointError(f"holds no {weights!r} weights, only {held}")
    if present:
        key = present[weights or next(iter(present))]
        inner = node[key]
    elif _tensors_in(node) or not (places := list(_networks(node, layouts))):
        return (), node
    else:
        key, inner = _one_of(places, weights)
    if _tensors_in(inner) or depth == MAX_DEPTH:
        return (key,), inner
    path, state = _find(inner, weights if not present else None, layouts, notes, depth + 1)
    return (key, *path), state


def _first(node: dict[Any, Any], keys: tuple[str, ...], notes: list[str]) -> str | None:
    """The first of these keys that holds tensors; what else has such a key is noted."""
    found = []
    for key in keys:
        held = node.get(key)
        if isinstance(held, dict) and any(map(_tensors_in, _within(held, set()))):
            found.append(key)
        elif isinstance(held, Record):
            notes.append(f"{key!r} is an object of {shown(held.name)}: {_SAVE}")
        elif key in AVERAGED_KEYS and isinstance(held, dict):
            notes.append(f"{key!r} holds no tensors")
    if found[1:]:
        notes.append(f"{found[0]!r} is taken, not {', '.join(found[1:])}: --key takes another")
    return found[0] if found else None


def _one_of(
    places: list[tuple[str, dict[Any, Any]]], weights: str | None
) -> tuple[str, dict[Any, Any]]:
    averaged = weights != "model"
    fitting = [place for place in places if bool(AVERAGED.search(place[0])) == averaged] or places
    if len(fitting) > 1:
        listed = ", ".join(_label(key) for key, _ in fitting[:SHOWN])
        raise CheckpointError(f"holds several networks, at {listed}: say which with --key")
    return fitting[0]


def _networks(node: dict[Any, Any], layouts: Layouts) -> Iterator[tuple[str, dict[Any, Any]]]:
    """The entries of a dict that hold a network of a known family, at any depth."""
    seen: set[int] = set()
    for key, value in node.items():
        if isinstance(key, str) and isinstance(value, dict):
            inside = list(_within(value, seen))
            if any(_is_network(inner, layouts) for inner in inside):
                yield key, value


def _is_network(node: dict[Any, Any], layouts: Layouts) -> bool:
    state = {key: value for key, value in node.items() if _is_entry(key, value)}
    try:
        return any(layout.knows(without_prefix(state, layouts).state) for layout in layouts)
    except CheckpointError:  # several networks, or two names that become one
        return True


def _within(node: dict[Any, Any], seen: set[int]) -> Iterator[dict[Any, Any]]:
    """A dict and the dicts in it, MAX_DEPTH levels of them, each one once."""
    level = [node]
    for _ in range(MAX_DEPTH):
        fresh = [inner for inner in level if id(inner) not in seen]
        seen.update(map(id, fresh))
        yield from fresh
        values = (value for inner in fresh for value in inner.values())
        level = list({id(value): value for value in values if isinstance(value, dict)}.values())


def _tensors_in(node: dict[Any, Any]) -> bool:
    return any(isinstance(value, TensorRecord) for value in node.values())


def _tensors(
    file: TorchFile,
    state: dict[Any, Any],
    ask: Ask,
    layouts: Layouts,
    key: str,
    notes: list[str],
) -> dict[str, TensorHandle]:
    """The tensors of a state dict by the network's own names."""
    where = f"{key!r}: " if key else ""
    texts = {name: value for name, value in state.items() if isinstance(name, str)}
    long = [name for name in texts if len(name) > MAX_NAME]
    named = describe_names(texts, ask, layouts, notes) if texts and not long else texts
    strange = [_described(name, of) for name, of in named.items() if not _is_entry(name, of)]
    strange += [_label(name) for name in state if not isinstance(name, str)]
    if strange or not state:
        listed = "; ".join([", ".join(strange) or "nothing", *notes])
        raise CheckpointError(f"{where}is no state dict: holds {listed} instead of named tensors")
    _check_repeated(named.values())
    return {name: file.handle(record) for name, record in named.items()}


def _check_repeated(records: Any) -> None:
    """Weights that repeat their storage take memory that the file does not have."""
    repeated = sum(
        max(record.numel - record.storage.numel, 0) * record.storage.dtype.itemsize
        for record in records
    )
    if repeated > MAX_REPEATED_BYTES:
        raise CheckpointError(
            f"its weights repeat what the file holds into {repeated} bytes, wanted at most "
            f"{MAX_REPEATED_BYTES}"
        )


def _is_entry(name: Any, value: Any) -> bool:
    return isinstance(name, str) and len(name) <= MAX_NAME and isinstance(value, TensorRecord)


def _described(name: Any, value: Any) -> str:
    kind = f" ({shown(value.name)})" if isinstance(value, Record | Symbol) else ""
    return f"{_label(name)}{kind}"


def _kind(value: Any) -> str:
    return f"object of {shown(value.name)}" if isinstance(value, Record) else type(value).__name__


def _label(name: Any) -> str:
    return shown(name) if isinstance(name, str) else f"a key of type {type(name).__name__}"
