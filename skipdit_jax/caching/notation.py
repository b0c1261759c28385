"""How policies are written: read from text and back, and changed field by field, by name alone.

Every method has the long form NAME(field=value, ...), such as block-cache(every=3, front=2), and
NAME:VALUE:VALUE, its first fields in their order, such as taylor:4:2; one may read a shorter form
of its own, such as N3-1000-20. A + joins methods that fill different sockets, "none" is no policy.
A method from outside the package joins by `register_policy`.
"""

import ast
import dataclasses
import re
from typing import Any

from skipdit_jax.caching.methods.ada_cache import AdaCache
from skipdit_jax.caching.methods.block_cache import BlockCache
from skipdit_jax.caching.methods.combined import Combined
from skipdit_jax.caching.methods.db_cache import DBCache
from skipdit_jax.caching.methods.deep_cache import DeepCache
from skipdit_jax.caching.methods.delta_dit import DeltaDiT
from skipdit_jax.caching.methods.easy_cache import EasyCache
from skipdit_jax.caching.methods.faster_cache import FasterCache
from skipdit_jax.caching.methods.faster_diffusion import FasterDiffusion
from skipdit_jax.caching.methods.first_block_cache import FirstBlockCache
from skipdit_jax.caching.methods.fora import Fora
from skipdit_jax.caching.methods.mag_cache import MagCache
from skipdit_jax.caching.methods.pab import Pab
from skipdit_jax.caching.methods.sea_cache import SeaCache
from skipdit_jax.caching.methods.skip_cache import SkipCache
from skipdit_jax.caching.methods.smooth_cache import SmoothCache
from skipdit_jax.caching.methods.taylor_seer import TaylorSeer
from skipdit_jax.caching.methods.tea_cache import TeaCache
from skipdit_jax.caching.methods.toca import DuCa, ToCa
from skipdit_jax.caching.plan import CachePolicy
from skipdit_jax.config import field_names, long_form, make_from_text

NO_CACHE = "none"
METHODS = (
    SkipCache,
    BlockCache,
    DeepCache,
    DeltaDiT,
    FasterDiffusion,
    Fora,
    SmoothCache,
    Pab,
    TaylorSeer,
    MagCache,
    FasterCache,
    TeaCache,
    FirstBlockCache,
    DBCache,
    AdaCache,
    SeaCache,
    EasyCache,
    ToCa,
    DuCa,
)
POLICIES: dict[str, type] = {method.NAME: method for method in METHODS}
"""Name in the long form -> method."""

AND = "+"  # between methods
VALUE = ":"  # before each value of the short form
QUOTES = "'\""

_LONG = re.compile(r"(?P<name>[\w.-]+)\((?P<fields>.*)\)", re.DOTALL)
_SHORT = re.compile(rf"(?P<name>[A-Za-z][\w.-]*)(?P<values>({VALUE}[^{VALUE}]+)*)")
_NAME = re.compile(r"[A-Za-z][\w.-]*")


def register_policy(name: str, policy: type) -> None:
    """Makes a method known by name to everything that reads a cache as text.

    Args:
      name: in the long form.
      policy: a frozen dataclass with the methods of `CachePolicy`. If it has `parse(text, default)`
        (a policy, or None for a text that is not its own), that reads a short form, and `str` must
        write it.

    Raises:
      ValueError: the name is taken or malformed, or the class is no policy.
    """
    if not _NAME.fullmatch(name) or name in (*POLICIES, NO_CACHE):
        raise ValueError(f"register_policy: {name!r} is taken or malformed, wanted another name")
    missing = [part for part in ("title", "resolved", "plan") if not hasattr(policy, part)]
    if missing or not dataclasses.is_dataclass(policy):
        raise ValueError(
            f"register_policy: {policy.__name__} lacks {', '.join(missing) or 'fields'}, wanted a "
            "dataclass with title, resolved and plan"
        )
    POLICIES[name] = policy


def read(text: str, published: CachePolicy | None = None) -> CachePolicy | None:
    """Reads a policy.

    Args:
      text: a short form, the long form, or "none".
      published: where a short form takes from what it leaves open.

    Raises:
      ValueError: it is no notation, or its settings mean nothing.

    Examples:
      >>> read("block-cache(every=3)")
      BlockCache(every=3, front=1, back=1, start=1000, stop=-1, forecast='hold', full=())
    """
    parts = [part.strip() for part in _split(text)]
    if len(parts) > 1:
        return Combined(policies=tuple(_read_one(part, published) for part in parts))
    return None if parts[0] == NO_CACHE else _read_one(parts[0], published)


def _split(text: str) -> list[str]:
    """The text at each + that stands in no bracket and in no quotes."""
    parts, depth, quote = [""], 0, ""
    for sign in text:
        if sign in QUOTES and quote in ("", sign):
            quote = "" if quote else sign
        elif not quote:
            depth += (sign in "([") - (sign in ")]")
        if sign == AND and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def _read_one(plain: str, published: CachePolicy | None) -> CachePolicy:
    for policy in POLICIES.values():
        parse = getattr(policy, "parse", None)
        if parse is not None and (found := parse(plain, published)) is not None:
            return found
    long, brief = _LONG.fullmatch(plain), _SHORT.fullmatch(plain)
    match = long or brief
    if match is None or match["name"] not in POLICIES:
        raise ValueError(
            f"cache {plain!r}: wanted N-start-stop such as N3-1000-20, or N3, or none, or "
            f"NAME(field=value, ...) or NAME:VALUE... with NAME one of {', '.join(POLICIES)}"
        )
    policy = POLICIES[match["name"]]
    if long:
        return _made(policy, plain, long["fields"])
    values = match["values"].split(VALUE)[1:]
    names = field_names(policy)[: len(values)]
    if len(names) < len(values):
        raise ValueError(
            f"cache {plain!r}: {policy.__name__} takes {', '.join(names) or 'nothing'}"
        )
    fields = (f"{n}={_literal(value)}" for n, value in zip(names, values, strict=True))
    return _made(policy, plain, ", ".join(fields))


def _literal(value: str) -> str:
    """A value as Python writes it: what is no literal is text."""
    try:
        ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return repr(value)
    return value


def write(policy: CachePolicy | None) -> str:
    """Writes a policy so that `read` gives it back, in its short form if that is all of it.

    Examples:
      >>> write(SkipCache(every=3, start=1000, stop=20)), write(SkipCache(every=3, branch=2))
      ('N3-1000-20', 'skip-cache(every=3, branch=2)')
    """
    if policy is None:
        return NO_CACHE
    if isinstance(policy, Combined):
        return AND.join(write(part) for part in policy.policies)
    if hasattr(policy, "parse") and policy.parse(str(policy), None) == policy:
        return str(policy)
    name = next((name for name, kind in POLICIES.items() if type(policy) is kind), None)
    if name is None:
        raise ValueError(f"cache {policy}: its method is not known by name, see register_policy")
    return long_form(name, policy)


def short(policy: CachePolicy) -> str:
    """A label for people: the method's own short form if it has one, else what `write` gives."""
    known = isinstance(policy, Combined) or type(policy) in POLICIES.values()
    return write(policy) if known and not hasattr(policy, "parse") else str(policy)


def with_fields(policy: CachePolicy, **fields: Any) -> CachePolicy:
    """Returns the policy with other settings.

    Raises:
      ValueError: a setting that the method does not have, or one that means nothing.
    """
    _check_known(policy, fields)
    return dataclasses.replace(policy, **fields)  # type: ignore[type-var]


def of_same_method(policy: CachePolicy, **fields: Any) -> CachePolicy:
    """Returns a policy of the same method that states these settings only.

    Raises:
      ValueError: see `with_fields`.
    """
    _check_known(policy, fields)
    return type(policy)(**fields)


def _check_known(policy: CachePolicy, fields: dict[str, Any]) -> None:
    known = field_names(type(policy))
    if unknown := [name for name in fields if name not in known]:
        raise ValueError(f"{policy.title}: has no {', '.join(unknown)}, only {', '.join(known)}")


def _made(policy: type, text: str, fields: str) -> CachePolicy:
    """A policy of the long form; values are Python literals, nothing is executed."""
    try:
        return make_from_text(policy, fields)
    except ValueError as error:
        known = ", ".join(field_names(policy))
        raise ValueError(f"cache {text!r}: {error}; it takes {known}") from error
