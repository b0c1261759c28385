"""Several methods at once, each in a socket of its own."""

from dataclasses import dataclass
from typing import Any

from skipdit_jax.caching.plan import CachePolicy, Plan, Run
from skipdit_jax.caching.planning import together


@dataclass(frozen=True, kw_only=True)
class Combined:
    """Methods whose plans are followed together.

    Attributes:
      policies: they fill different sockets.
    """

    policies: tuple[CachePolicy, ...]

    @property
    def title(self) -> str:
        """What to call it."""
        return " + ".join(policy.title for policy in self.policies)

    def __str__(self) -> str:
        """What `notation.read` reads."""
        return "+".join(map(str, self.policies))

    def resolved(self, published: Any) -> "Combined":
        """Completes each of them."""
        return Combined(policies=tuple(policy.resolved(published) for policy in self.policies))

    def plan(self, run: Run) -> Plan:
        """The plan of a run; see `CachePolicy`.

        Raises:
          ValueError: two fill the same socket.
        """
        return together([policy.plan(run) for policy in self.policies])
