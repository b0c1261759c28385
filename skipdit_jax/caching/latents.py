"""Probes that look at latents alone, or at latents and the network's output."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from skipdit_jax.caching.decisions import Movement, Seen, distance, size
from skipdit_jax.caching.probes import Watched
from skipdit_jax.typing import Flag, Latents, Scalar

FLOOR = 1e-16  # of a spectrum's decay, so that its mean is finite (diffusers, sea_cache)


class FilterRow(NamedTuple):
    """Numbers of `FilteredLatents`, of each step.

    Attributes:
      noise: float32, sigma; the share of data is 1 - sigma.
      power: float32, p of the spectrum's decay.
    """

    noise: Float[np.ndarray, "S"]
    power: Float[np.ndarray, "S"]


@dataclass(frozen=True)
class FilteredLatents(Watched):
    """Latents behind the filter that is best for data of a decaying spectrum in white noise.

    SeaCache (arXiv 2602.18993), in the form of diffusers: with f the frequencies of an axis and
    P = 1 / (|f|^p + 1e-16),

        G = prod over axes  P / ((1 - sigma)^2 P + sigma^2),    over its mean
    """

    pooled = False

    def start(self, seen: Seen) -> Latents:
        """See `decisions.Probe`."""
        return seen.x

    def look(self, seen: Seen) -> Latents:
        """The value."""
        assert seen.row is not None
        return filtered(seen.x, seen.row.probe)


def filtered(x: Latents, row: FilterRow) -> Latents:
    """The real part of x [B,..,H,W,C] behind the filter over all axes of a sample."""
    axes = tuple(range(1, x.ndim - 1))
    spectrum = jnp.fft.fftn(x.astype(jnp.float32), axes=axes)
    for axis in axes:
        decay = np.abs(np.fft.fftfreq(x.shape[axis])).astype(np.float32) ** row.power + FLOOR
        gain = 1 / ((1 - row.noise) ** 2 + row.noise**2 * decay)  # P / (..), with P in both
        shape = [1] * x.ndim
        shape[axis] = len(gain)
        spectrum = spectrum * (gain / gain.mean()).reshape(shape).astype(jnp.complex64)
    return jnp.fft.ifftn(spectrum, axes=axes).real


class Followed(NamedTuple):
    """What `LatentsAndOutput` keeps.

    Attributes:
      before: latents of the last step.
      at: latents of the last computed step.
      output: what the network made of them, as many channels.
      rate: how far outputs move for as far as latents do; 0 before it is known.
      computed: whether a step was computed.
      known: whether two were.
    """

    before: Latents
    at: Latents
    output: Latents
    rate: Scalar
    computed: Bool[Array, ""]
    known: Bool[Array, ""]


@dataclass(frozen=True)
class LatentsAndOutput(Watched):
    """How far the output will have moved, by how far latents did: the network is not touched."""

    def start(self, seen: Seen) -> Followed:
        """See `decisions.Probe`."""
        flag = jnp.zeros((), bool)
        return Followed(seen.x, seen.x, seen.x, jnp.zeros((), jnp.float32), flag, flag)

    def measure(self, seen: Seen, kept: Followed, movement: Movement) -> tuple[Latents, Scalar]:
        """The number is infinite before a rate is known."""
        moved = kept.rate * movement(distance(seen.x, kept.before), size(kept.output))
        return seen.x, jnp.where(kept.known, moved, jnp.inf)

    def renew(
        self,
        saw: Latents,
        kept: Followed,
        inside: Any,
        computed: Flag,
        output: Array,
        movement: Movement,
    ) -> Followed:
        """See `decisions.Probe`."""
        output = output[..., : saw.shape[-1]]
        rate = movement(distance(output, kept.output), distance(saw, kept.at))
        found = Followed(
            saw,
            saw,
            output.astype(saw.dtype),
            jnp.where(kept.computed, rate, 0.0),
            jnp.ones((), bool),
            kept.computed,
        )
        after = [jnp.where(computed, new, old) for new, old in zip(found, kept, strict=True)]
        return Followed(*after)._replace(before=saw)
