"""A probe inside the network: updates of some sub-layers behind their gates, and how they move."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from skipdit_jax.caching.decisions import Movement, Seen, distance, size
from skipdit_jax.caching.probes import Watched
from skipdit_jax.caching.rules import Changes
from skipdit_jax.caching.trunk import Runner, Slots
from skipdit_jax.contracts import Hook, StagedModel, Sublayer
from skipdit_jax.typing import Flag, Skips


class Sums(NamedTuple):
    """Of a change, of each row.

    Attributes:
      part: L1 norm of the difference.
      whole: of what it is relative to.
    """

    part: Float[Array, "rows"]
    whole: Float[Array, "rows"]


class Layer(NamedTuple):
    """What is kept of a stage.

    Attributes:
      update: at the last computed step, behind its gate, float32.
      change: of it, from the computed step before.
      motion: of it, from frames to those so many behind, for each distance.
    """

    update: Float[Array, "rows *tokens D"]
    change: Sums
    motion: tuple[Sums, ...]


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

    def start(self, seen: Seen) -> tuple[Layer, ...]:
        """See `decisions.Probe`."""
        assert seen.embedded is not None
        h, c = seen.embedded
        found: dict[int, Array] = {}
        seen.model.run(h, c, {}, 0, seen.model.num_stages, hook=self._hook(found))
        return tuple(self._layer(found[stage], found[stage]) for stage in self.stages)

    def measure(self, seen: Seen, kept: Any, movement: Movement) -> tuple[None, None]:
        """Nothing before the choice."""
        return None, None

    def runner(self, model: StagedModel, c: Any) -> Runner:
        """Stages that leave their updates in what is kept."""

        def run(h: Array, skips: Skips, slots: Slots, lo: int, hi: int) -> Any:
            found: dict[int, Array] = {}
            h, skips = model.run(h, c, skips, lo, hi, hook=self._hook(found))
            pairs = zip(self.stages, slots, strict=True)
            slots = tuple(
                self._layer(found[stage], layer.update) if stage in found else layer
                for stage, layer in pairs
            )
            return h, skips, slots

        return run

    def inside(self, kept: tuple[Layer, ...]) -> tuple[Layer, ...]:
        """All."""
        return kept

    def renew(
        self, saw: Any, kept: Any, inside: Any, computed: Flag, output: Array, movement: Movement
    ) -> tuple[Layer, ...]:
        """As the stages left it."""
        return inside

    def behind(self, kept: tuple[Layer, ...], movement: Movement) -> Changes:
        """See `decisions.Probe`."""
        change = jnp.stack([movement(*layer.change) for layer in kept])
        if not self.strides:
            return Changes(change)
        motion = [jnp.stack([movement(*sums) for sums in layer.motion]).mean() for layer in kept]
        return Changes(change, jnp.stack(motion))

    def _hook(self, found: dict[int, Array]) -> Hook:
        """What the seam calls; leaves updates behind their gates in `found`, of this trace."""

        def hook(sublayer: Sublayer) -> tuple[Any, Array]:
            gate, update = sublayer.plain()
            if sublayer.stage in self.stages and sublayer.name in self.names:
                added = update.astype(jnp.float32)
                added = added if gate is None else gate * added
                found[sublayer.stage] = found.get(sublayer.stage, 0.0) + added
            return gate, update

        return hook

    def _layer(self, update: Array, before: Array) -> Layer:
        moved = [
            Sums(distance(later, earlier), size(later) + size(earlier))
            for later, earlier in ((update[:, s:], update[:, :-s]) for s in self.strides)
        ]
        return Layer(update, Sums(distance(before, update), size(before)), tuple(moved))
