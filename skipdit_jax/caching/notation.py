"""How policies are written: read from text and back, and changed field by field, by name alone.

Every method has the long form NAME(field=value, ...), such as block-cache(every=3, front=2); a
method may read a shorter one of its own, such as N3-1000-20. "none" is no policy. A method from
outside the package joins by `register_policy`.
"""

import ast
import dataclasses
import re
from typing import Any

from skipdit_jax.caching.methods.block_cache import BlockCache
from skipdit_jax.caching.methods.skip_cache import SkipCache
from skipdit_jax.caching.plan import CachePolicy
from skipdit_jax.config import field_names

NO_CACHE = "none"
POLICIES: dict[str, type] = {"skip-cache": SkipCache, "block-cache": BlockCache}
"""Name in the long form -> method."""

_LONG = re.compile(r"(?P<name>[\w.-]+)\((?P<fields>.*)\)", re.DOTALL)
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
      BlockCache(every=3, front=1, back=1, start=1000, stop=-1)
    """
    plain = text.strip()
    if plain == NO_CACHE:
        return None
    for policy in POLICIES.values():
        parse = getattr(policy, "parse", None)
        if parse is not None and (found := parse(plain, published)) is not None:
            return found
    match = _LONG.fullmatch(plain)
    if match is None or match["name"] not in POLICIES:
        raise ValueError(
            f"cache {text!r}: wanted N-start-stop such as N3-1000-20, or N3, or none, or "
            f"NAME(field=value, ...) with NAME one of {', '.join(POLICIES)}"
        )
    return _made(POLICIES[match["name"]], text, match["fields"])


def write(policy: CachePolicy | None) -> str:
    """Writes a policy so that `read` gives it back, in its short form if that is all of it.

    Examples:
      >>> write(SkipCache(every=3, start=1000, stop=20)), write(SkipCache(every=3, branch=2))
      ('N3-1000-20', 'skip-cache(every=3, branch=2)')
    """
    if policy is None:
        return NO_CACHE
    if hasattr(policy, "parse") and policy.parse(str(policy), None) == policy:
        return str(policy)
    name = next((name for name, kind in POLICIES.items() if type(policy) is kind), None)
    if name is None:
        raise ValueError(f"cache {policy}: its method is not known by name, see register_policy")
    changed = {
        field.name: value
        for field in dataclasses.fields(policy)  # type: ignore[arg-type]
        if (value := getattr(policy, field.name)) != field.default
    }
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in changed.items())})"


def short(policy: CachePolicy) -> str:
    """A label for people: the method's own short form if it has one, else what `write` gives."""
    return str(policy) if hasattr(policy, "parse") else write(policy)


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
        call = ast.parse(f"f({fields})", mode="eval").body
        assert isinstance(call, ast.Call)
        if call.args or any(keyword.arg is None for keyword in call.keywords):
            raise ValueError("settings have names")
        settings = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
        return policy(**settings)
    except (SyntaxError, TypeError, ValueError, AssertionError) as error:
        known, reason = ", ".join(field_names(policy)), " ".join(str(error).split())
        raise ValueError(f"cache {text!r}: {reason}; it takes {known}") from error
