"""A probe inside the network: updates of some sub-layers behind their gates, and how they move."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from skipdit_jax.caching.decisions import Movement, Seen, distance, size
from skipdit_jax.caching.probes import Watched
from skipdit_jax.caching.rules import Changes
from skipdit_jax.caching.trunk import Runner, Slots
from skipdit_jax.contracts import Hook, StagedModel, Sublayer
from skipdit_jax.typing import Flag, Scalar, Skips


class Pair(NamedTuple):
    """The last two values of a stage, one written where the older one was.

    Attributes:
      slots: float32 [2,rows,...].
      newest: which of them is the last.
    """

    slots: Float[Array, "two rows *tokens D"]
    newest: Int[Array, ""]

    def written(self, value: Array) -> "Pair":
        """With one value more: nothing is read, so nothing is copied."""
        place = 1 - self.newest
        return Pair(jax.lax.dynamic_update_index_in_dim(self.slots, value, place, 0), place)

    def read(self) -> tuple[Array, Array]:
        """The last value, and the one before."""
        places = (self.newest, 1 - self.newest)
        last, before = (jax.lax.dynamic_index_in_dim(self.slots, p, 0, False) for p in places)
        return last, before


@dataclass(frozen=True)
class Updates(Watched):
    """What sub-layers of some stages add, looked at where they are computed.

    Attributes:
      stages: ascending.
      names: of the sub-layers; their updates are summed.
      strides: distances between frames; none: motion does not count.
    """

    stages: tuple[int, ...]
    names: tuple[str, ...]
    strides: tuple[int, ...] = ()

    def start(self, seen: Seen) -> tuple[Pair, ...]:
        """See `decisions.Probe`."""
        assert seen.embedded is not None
        h, c = seen.embedded
        found: dict[int, Array] = {}
        seen.model.run(h, c, {}, 0, seen.model.num_stages, hook=self.hook(found))
        none = jnp.zeros((), jnp.int32)
        return tuple(Pair(jnp.stack([found[stage]] * 2), none) for stage in self.stages)

    def measure(self, seen: Seen, kept: Any, movement: Movement) -> tuple[None, None]:
        """Nothing before the choice."""
        return None, None

    def runner(self, model: StagedModel, c: Any) -> Runner:
        """Stages that leave their updates in what is kept."""

        def run(h: Array, skips: Skips, slots: Slots, lo: int, hi: int) -> Any:
            found: dict[int, Array] = {}
            h, skips = model.run(h, c, skips, lo, hi, hook=self.hook(found))
            slots = tuple(
                pair.written(found[stage]) if stage in found else pair
                for stage, pair in zip(self.stages, slots, strict=True)
            )
            return h, skips, slots

        return run

    def inside(self, kept: tuple[Pair, ...]) -> tuple[Pair, ...]:
        """All."""
        return kept

    def renew(
        self, saw: Any, kept: Any, inside: Any, computed: Flag, output: Array, movement: Movement
    ) -> tuple[Pair, ...]:
        """As the stages left it."""
        return inside

    def behind(self, kept: tuple[Pair, ...], movement: Movement) -> Changes:
        """See `decisions.Probe`."""
        values = [pair.read() for pair in kept]
        change = [movement(distance(before, last), size(before)) for last, before in values]
        if not self.strides:
            return Changes(jnp.stack(change))
        motion = [self._motion(last, movement) for last, _ in values]
        return Changes(jnp.stack(change), jnp.stack(motion))

    def _motion(self, update: Array, movement: Movement) -> Scalar:
        """How far an update moves along the frames, the mean over all strides."""
        each = []
        for stride in self.strides:
            later, earlier = update[:, stride:], update[:, :-stride]
            each.append(movement(distance(later, earlier), size(later) + size(earlier)))
        return jnp.stack(each).mean()

    def hook(self, found: dict[int, Array]) -> Hook:
        """What the seam calls; leaves updates behind their gates in `found`, of this trace."""

        def hook(sublayer: Sublayer) -> tuple[Any, Array]:
            gate, update = sublayer.plain()
            if sublayer.stage in self.stages and sublayer.name in self.names:
                added = update.astype(jnp.float32)
                added = added if gate is None else gate * added
                found[sublayer.stage] = found.get(sublayer.stage, 0.0) + added
            return gate, update

        return hook
