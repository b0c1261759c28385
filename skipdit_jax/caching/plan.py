"""Plans: what each step of a run computes, decided on the host before anything is traced."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from skipdit_jax.contracts import Costs
from skipdit_jax.typing import StepFlags


class Trunk(NamedTuple):
    """Which part of the network a cached step leaves out, fixed at trace time.

    Attributes:
      front: stages [0, front) run fresh on every step.
      back: stages [U - back, U) run fresh on every step.
      residual: False caches the value that enters the back part (Skip-Cache); True caches what the
        deep part added to its input (block-range methods for models without skips).
    """

    front: int
    back: int
    residual: bool = False

    def flops(self, costs: Costs) -> int:
        """FLOPs of a call whose stages [front, U - back) come from a cache."""
        stages = costs.num_stages
        return costs.stages(0, self.front) + costs.stages(stages - self.back, stages)


class Plan(NamedTuple):
    """A caching schedule over the S model calls of one sampling run.

    Attributes:
      reuse: bool [S], True where the deep part is taken from the cache. `reuse[0]` is False.
      trunk: what the cache stands for.
    """

    reuse: StepFlags
    trunk: Trunk

    def check(self, num_stages: int, num_skips: int) -> None:
        """Raises ValueError if a model of U stages and K skips cannot follow the plan."""
        reuse, trunk = self
        if not len(reuse) or reuse[0]:
            raise ValueError(
                "cache plan: step 0 must be computed in full, there is nothing to reuse"
            )
        if not trunk.residual and trunk.front != trunk.back:
            raise ValueError("cache plan: an absolute value needs as many front as back stages")
        if not trunk.residual and not num_skips:
            raise ValueError("Skip-Cache needs long skips: choose a -skip model or no cache")
        if trunk.front + trunk.back >= num_stages:
            raise ValueError(
                f"cache plan: branch {trunk.front} leaves nothing to save in {num_stages} stages, "
                f"wanted 1 <= branch < {num_stages / 2:g}"
            )
        if min(trunk.back, num_skips) > trunk.front:
            raise ValueError(
                f"cache plan: the last {trunk.back} stages need skips that the first "
                f"{trunk.front} of {num_skips} do not make"
            )


@runtime_checkable
class CachePolicy(Protocol):
    """A caching method: a small frozen dataclass that turns timesteps into a plan.

    Its fields are its settings; `notation` writes and reads them by name.
    """

    @property
    def title(self) -> str:
        """What to call the method where people read it."""
        ...

    def resolved(self, published: Any) -> "CachePolicy":
        """Fills what was left open with the settings published for a model's family.

        Args:
          published: the policy of the family, of whatever method; None if there is none. A method
            that leaves nothing open, or knows nothing of that policy, ignores it.
        """
        ...

    def plan(self, timesteps: Int[np.ndarray, "S"]) -> Plan:
        """Returns the plan for timesteps in sampling order (descending).

        They count as of a process of 1000, for which all intervals were published: those of a
        model trained on T steps come as floor(1000 t / T).
        """
        ...
