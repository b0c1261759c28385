"""What most methods share: a name in the notation, nothing left open, a text that reads back."""

from typing import Any, ClassVar

from skipdit_jax.config import long_form


def decides(policy: Any) -> bool:
    """Whether the samples say what a policy reuses; one of another make, or none, is static."""
    return not getattr(policy, "STATIC", True)


class Method:
    """A base of frozen dataclasses that are policies (`plan.CachePolicy`); no policy needs it.

    Attributes:
      NAME: in the notation.
      PAPER: where the method was published.
      EXAMPLE: a usual setting in the notation; FILE stands for a file of the user's.
      KEEPS: what is kept from step to step, for people.
      STATIC: whether the plan is fixed before the run.
      title: what to call it where people read it.
    """

    NAME: ClassVar[str]
    PAPER: ClassVar[str]
    EXAMPLE: ClassVar[str]
    KEEPS: ClassVar[str]
    STATIC: ClassVar[bool] = True
    title: ClassVar[str]

    def resolved(self, published: Any) -> Any:
        """Returns itself: nothing is left open."""
        return self

    def __str__(self) -> str:
        """The long form of the notation."""
        return long_form(self.NAME, self)
