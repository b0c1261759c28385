"""The chance in one training step, apart from the update so that recorded draws can be replayed."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from skipdit_jax.contracts import Conditioning
from skipdit_jax.typing import Condition, Latents, PRNGKey

TimestepSampler = Callable[[PRNGKey, int, int], Int[Array, "B"]]
"""(key, B, S) -> indices 0..S-1. Each index must be equally likely for each sample, because the
losses are not reweighted."""


def uniform(key: PRNGKey, batch: int, num_timesteps: int) -> Int[Array, "B"]:
    """Draws each sample's step by itself (Ho et al., arXiv 2006.11239, algorithm 1)."""
    return jax.random.randint(key, (batch,), 0, num_timesteps, jnp.int32)


def stratified(key: PRNGKey, batch: int, num_timesteps: int) -> Int[Array, "B"]:
    """Spreads a batch evenly over the steps from one shared offset: less noise in the mean loss.

    The low-discrepancy sampler of Kingma et al., "Variational diffusion models" (arXiv 2107.00630,
    appendix I.1). Sample i gets step floor(S ((u + i / B) mod 1)).
    """
    offset = jax.random.uniform(key, (1,), jnp.float32)
    place = (offset + jnp.arange(batch, dtype=jnp.float32) / batch) % 1.0
    # Rounding may bring the product up to S itself.
    return jnp.minimum((place * num_timesteps).astype(jnp.int32), num_timesteps - 1)


TIMESTEP_SAMPLERS: dict[str, TimestepSampler] = {"uniform": uniform, "stratified": stratified}
"""Named samplers, all unbiased: every step alike."""


class Draws(NamedTuple):
    """The chance in one step.

    Attributes:
      t: indices into the diffusion's steps, int32 [B].
      noise: standard normal, like the images.
      condition: of the model, some rows of it replaced by the null.
    """

    t: Int[Array, "B"]
    noise: Latents
    condition: Condition


def draw(
    key: PRNGKey,
    images: Latents,
    condition: Condition,
    conditioning: Conditioning,
    *,
    num_timesteps: int,
    sample_timesteps: TimestepSampler = uniform,
) -> Draws:
    """Draws timesteps, noise, and which rows are trained without their condition."""
    t_key, noise_key, drop_key = jax.random.split(key, 3)
    return Draws(
        t=sample_timesteps(t_key, len(images), num_timesteps),
        noise=jax.random.normal(noise_key, images.shape, jnp.float32),
        condition=conditioning.drop(drop_key, condition),
    )
