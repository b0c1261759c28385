"""Several methods at once, each in a socket of its own."""

from dataclasses import dataclass
from typing import Any

from skipdit_jax.caching.guides import Guide
from skipdit_jax.caching.plan import CachePolicy, Plan, Run
from skipdit_jax.caching.planning import entries, together


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
        first = [policy.plan(run) for policy in self.policies]
        guides = [plan for plan in first if plan.sockets.guide is not None]
        if not guides:
            return together(first)
        again = run._replace(restarts=entries(guides[0].kinds.guide == Guide.kinds - 1))
        others = (plan.sockets.guide is None for plan in first)
        pairs = zip(self.policies, first, others, strict=True)
        return together([policy.plan(again) if other else plan for policy, plan, other in pairs])
