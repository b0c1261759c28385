"""What deciding methods look at: the input of the first block, what the front adds, the latents."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from skipdit_jax.caching.decisions import Movement, Seen, distance, size
from skipdit_jax.caching.sublayers import plain_runner
from skipdit_jax.caching.trunk import Runner
from skipdit_jax.contracts import StagedModel, Sublayer
from skipdit_jax.typing import Flag


def replaced(kept: Array, value: Array, read: Float[Array, "*rows"]) -> Array:
    """The value, in the place of what was kept, written behind a number that was read of both.

    Without that number nothing would keep the write behind the read, and XLA copies.

    Args:
      kept: [rows,...].
      value: the same.
      read: one number, or one for each row; where it is none, nothing is replaced.
    """
    read = read.reshape(*read.shape, *(1,) * (value.ndim - read.ndim))
    return jnp.where(jnp.isnan(read), kept, value)


@dataclass(frozen=True)
class Watched:
    """A probe that compares one value of a step with that of an earlier one.

    Attributes:
      always: the earlier one is the last; False: the last computed one.
      pooled: see `decisions.Movement`.
    """

    always: ClassVar[bool] = True
    pooled: ClassVar[bool] = True

    def look(self, seen: Seen) -> Float[Array, "rows ..."]:
        """The value."""
        raise NotImplementedError

    def start(self, seen: Seen) -> Any:
        """See `decisions.Probe`."""
        return self.look(seen)

    def measure(self, seen: Seen, kept: Any, movement: Movement) -> tuple[Any, Any]:
        """See `decisions.Probe`."""
        value = self.look(seen)
        number = movement(distance(value, kept), size(kept), pooled=self.pooled)
        return (value, number), number

    def runner(self, model: StagedModel, c: Any) -> Runner:
        """Stages as they are."""
        return plain_runner(model, c)

    def inside(self, kept: Any) -> Any:
        """Nothing."""
        return ()

    def renew(
        self, saw: Any, kept: Any, inside: Any, computed: Flag, output: Array, movement: Movement
    ) -> Any:
        """See `decisions.Probe`."""
        value, number = saw
        return replaced(kept, value, number) if self.always else jnp.where(computed, value, kept)

    def behind(self, kept: Any, movement: Movement) -> Any:
        """No number."""
        return None


@dataclass(frozen=True)
class FirstInput(Watched):
    """What enters the first sub-layer, behind norm and modulation: knows tokens, time, condition.

    The rest of the stage is traced for its place only, and is not in the program.
    """

    def look(self, seen: Seen) -> Array:
        """The value."""
        found: list[Array] = []

        def hook(sublayer: Sublayer) -> tuple[Any, Array]:
            found.append(sublayer.x)
            return sublayer.gate, jnp.zeros_like(sublayer.x)

        assert seen.embedded is not None
        h, c = seen.embedded
        seen.model.run(h, c, {}, 0, 1, hook=hook)
        return found[0]


@dataclass(frozen=True)
class FrontResidual(Watched):
    """What the stages before the span added to the tokens, float32."""

    always: ClassVar[bool] = False

    def look(self, seen: Seen) -> Array:
        """The value."""
        assert seen.embedded is not None
        assert seen.h is not None
        return seen.h.astype(jnp.float32) - seen.embedded[0].astype(jnp.float32)
