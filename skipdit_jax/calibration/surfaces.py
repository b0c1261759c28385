"""The surface of a model's loss and features around its weights (`evaluation.stability`).

Noisy samples of some timesteps are fixed, weights move. At each place: the loss that training has
there (`diffusion.losses`), and how far the feature that Skip-Cache reuses, and the network's
output, are from those of the weights as they are. The first is the figure of Li et al.
(arXiv 1712.09913), the second that of Skip-DiT (arXiv 2411.17616).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from skipdit_jax import compiler
from skipdit_jax.calibration.similarity import deep_stage
from skipdit_jax.contracts import Backbone
from skipdit_jax.diffusion.gaussian import q_sample, take
from skipdit_jax.diffusion.losses import training_losses
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.evaluation.stability import filter_normalised, likeness, surface
from skipdit_jax.models.stack import bind
from skipdit_jax.typing import Condition, Latents, Params

ALONG, ACROSS, NOISE = 1, 2, 3  # behind the seed: what is drawn from it


class Around(NamedTuple):
    """What a surface shows at each place; leading axes are the grid's.

    Attributes:
      loss: of training, the mean of the samples.
      cosine: of the deep feature to that of the weights as they are, the mean over tokens.
      feature: its L1 difference to it, relative.
      output: that of the network's output.
    """

    loss: Float[Array | np.ndarray, "*grid T"]
    cosine: Float[Array | np.ndarray, "*grid T"]
    feature: Float[Array | np.ndarray, "*grid T"]
    output: Float[Array | np.ndarray, "*grid T"]


class Made(NamedTuple):
    """What a network makes at one timestep.

    Attributes:
      loss: the mean of the samples, scalar.
      deep: [B,..,D].
      output: [B,..,C_out].
    """

    loss: Array
    deep: Array
    output: Array


class Noised(NamedTuple):
    """What surfaces are taken on.

    Attributes:
      x0: samples, [B,..,C].
      noise: as many.
      condition: leaves [B,...].
      t: indices of the kept steps of the process, int32 [T].
    """

    x0: Latents
    noise: Latents
    condition: Condition
    t: Int[np.ndarray, "T"]


def noised(
    model: Backbone, x0: Latents | np.ndarray, given: Any, t: Int[np.ndarray, "T"], seed: int
) -> Noised:
    """Samples with noise that is the same for all models of one shape.

    Args:
      model: the backbone.
      x0: samples, [B,..,C].
      given: labels, or whatever the model is conditioned on.
      t: indices of kept steps.
      seed: of the noise.

    Raises:
      ValueError: the model is not conditioned on what was given.
    """
    noise = np.random.default_rng((seed, NOISE)).standard_normal(x0.shape).astype(np.float32)
    condition = model.conditioning.prepare(given, len(x0))
    return Noised(
        jnp.asarray(x0, jnp.float32), jnp.asarray(noise), condition, np.asarray(t, np.int32)
    )


def made_by(model: Backbone, diffusion: Diffusion, params: Params, on: Noised) -> Made:
    """Loss, deep feature and output at all timesteps, leaves [T,...] (traceable)."""
    staged, deep = bind(model, params), deep_stage(model.num_stages)

    def at(t: Int[Array, ""]) -> Made:
        indices = jnp.full(len(on.x0), t)
        coefficients = take(diffusion.coefficients(), indices, on.x0.ndim)
        xt = q_sample(coefficients, on.x0, on.noise)
        model_t = jnp.asarray(diffusion.timesteps, jnp.float32)[indices]
        h, c = staged.embed(xt, model_t, on.condition)
        feature, skips = staged.run(h, c, {}, 0, deep + 1)
        h, _ = staged.run(feature, c, skips, deep + 1, model.num_stages)
        output = staged.head(h, c)
        terms = training_losses(diffusion, coefficients, indices, output, on.x0, xt, on.noise)
        return Made(terms.loss.mean(), feature, output)

    return jax.lax.map(at, jnp.asarray(on.t))


def measure_surface(
    model: Backbone,
    diffusion: Diffusion,
    params: Params,
    on: Noised,
    coordinates: Float[np.ndarray, "P"],
    seed: int,
) -> Around:
    """The surface along two random directions.

    Args:
      model: the backbone.
      diffusion: the process that it was trained for.
      params: weights.
      on: samples.
      coordinates: α and β.
      seed: of the directions.

    Returns:
      Float32 [P,P,T], α first.
    """
    directions = (
        filter_normalised(params, (seed, ALONG)),
        filter_normalised(params, (seed, ACROSS)),
    )

    def makes(params: Params, on: Noised) -> Made:
        return made_by(model, diffusion, params, on)

    def value(params: Params, here: Made, on: Noised) -> Around:
        there = makes(params, on)
        feature = jax.vmap(likeness)(here.deep, there.deep)
        output = jax.vmap(likeness)(here.output, there.output)
        return Around(there.loss, feature.cosine, feature.relative, output.relative)

    here = compiler.jit(makes)(params, on)
    return surface(value, params, directions, coordinates, here, on)
