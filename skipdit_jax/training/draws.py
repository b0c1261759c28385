"""The chance in one training step, apart from the update so that recorded draws can be replayed."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from skipdit_jax.typing import JointLabels, Labels, Latents, PRNGKey

TimestepSampler = Callable[[PRNGKey, int, int], Int[Array, "B"]]
"""(key, B, S) -> indices 0..S-1. Each index must be equally likely for each sample, because the
losses are not reweighted."""


def uniform(key: PRNGKey, batch: int, num_timesteps: int) -> Int[Array, "B"]:
    """Draws each sample's step by itself (Ho et al., arXiv 2006.11239, algorithm 1)."""
    return jax.random.randint(key, (batch,), 0, num_timesteps)


def stratified(key: PRNGKey, batch: int, num_timesteps: int) -> Int[Array, "B"]:
    """Spreads a batch evenly over the steps from one shared offset: less noise in the mean loss.

    The low-discrepancy sampler of Kingma et al., "Variational diffusion models" (arXiv 2107.00630,
    appendix I.1). Sample i gets step floor(S ((u + i / B) mod 1)).
    """
    offset = jax.random.uniform(key, (1,))
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
      labels: class labels, some of them replaced by the null class.
    """

    t: Int[Array, "B"]
    noise: Latents
    labels: Labels | JointLabels


def draw(
    key: PRNGKey,
    images: Latents,
    labels: Labels | JointLabels,
    *,
    num_timesteps: int,
    num_classes: int,
    class_dropout_prob: float,
    sample_timesteps: TimestepSampler = uniform,
) -> Draws:
    """Draws timesteps, noise, and which labels become the null class `num_classes`.

    The images of a clip lose their labels together, whether or not the clip loses its own.
    """
    t_key, noise_key, drop_key = jax.random.split(key, 3)

    def drop(key: PRNGKey, labels: Int[Array, "B *images"]) -> Int[Array, "B *images"]:
        chosen = jax.random.uniform(key, labels.shape[:1]) < class_dropout_prob
        chosen = chosen.reshape(-1, *(1,) * (labels.ndim - 1))
        return jnp.where(chosen, jnp.int32(num_classes), labels)

    kept: Labels | JointLabels
    if isinstance(labels, JointLabels):
        image_key = jax.random.fold_in(drop_key, 1)
        kept = JointLabels(drop(drop_key, labels.video), drop(image_key, labels.images))
    else:
        kept = drop(drop_key, labels)
    return Draws(
        t=sample_timesteps(t_key, len(images), num_timesteps),
        noise=jax.random.normal(noise_key, images.shape),
        labels=kept,
    )
