"""What most methods share: a name in the notation, nothing left open, a text that reads back."""

import dataclasses
from typing import Any, ClassVar


class Method:
    """A base of frozen dataclasses that are policies (`plan.CachePolicy`); no policy needs it.

    Attributes:
      NAME: in the notation.
      PAPER: where the method was published.
      title: what to call it where people read it.
    """

    NAME: ClassVar[str]
    PAPER: ClassVar[str]
    title: ClassVar[str]

    def resolved(self, published: Any) -> Any:
        """Returns itself: nothing is left open."""
        return self

    def __str__(self) -> str:
        """The long form of the notation."""
        return long_form(self.NAME, self)


def long_form(name: str, policy: Any) -> str:
    """NAME(field=value, ...) with the fields that differ from their defaults; NAME if none does."""
    changed = {
        field.name: value
        for field in dataclasses.fields(policy)
        if (value := getattr(policy, field.name)) != field.default
    }
    if not changed:
        return name
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in changed.items())})"
