"""Training losses, per sample and in float32.

Letters as in gaussian.py; L_t bits of likelihood.py, S kept steps.

    (1)  "mse"           loss = MSE(target, prediction) + L_t               [the released models]
    (2)  "rescaled_mse"  loss = MSE(target, prediction) + λ S L_t           [2102.09672, eq. 16]
    (3)  "kl"            loss = S L_t                                       [2102.09672, eq. 4]

In (1) and (2) L_t trains the variance only: the mean in it is detached (2102.09672, section 3.1).
With a fixed variance they have no L_t. In (3) it trains both.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from skipdit_jax.diffusion.gaussian import (
    NetworkOutput,
    predict,
    split_output,
    training_target,
)
from skipdit_jax.diffusion.likelihood import PerSample, per_sample_mean, step_bits
from skipdit_jax.diffusion.schedules import Coefficients, Diffusion
from skipdit_jax.typing import Latents

OBJECTIVES = ("mse", "rescaled_mse", "kl")

VLB_WEIGHT = 0.001
"""λ of (2) (2102.09672, section 3.1)."""


class Losses(NamedTuple):
    """Losses of each sample, float32 [B].

    Attributes:
      loss: what is minimised.
      mse: mean squared error of the prediction channels.
      vb: the bound's share of `loss`, weighted as there; 0 where there is none.
    """

    loss: PerSample
    mse: PerSample
    vb: PerSample


def training_losses(
    diffusion: Diffusion,
    c: Coefficients,
    t: Int[Array, "B"],
    model_output: NetworkOutput,
    x0: Latents,
    xt: Latents,
    noise: Latents,
    objective: str = "mse",
) -> Losses:
    """Losses (1)-(3) of a batch.

    Args:
      diffusion: the process that is trained.
      c: coefficients of steps t, [B,1,..,1], see `gaussian.take`.
      t: index of each sample's step among the kept steps.
      model_output: [B,*grid,C], or [B,*grid,2C] with learned variance.
      x0: data in [-1, 1].
      xt: noisy data, `q_sample(c, x0, noise)`.
      noise: ε that made it.
      objective: which of (1)-(3).

    Raises:
      ValueError: unknown objective, or wrong number of output channels.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"objective: found {objective!r}, wanted one of {', '.join(OBJECTIVES)}")
    output, _ = split_output(diffusion, c, model_output, xt)
    mse = per_sample_mean((training_target(diffusion, c, x0, noise) - output) ** 2)
    if objective == "kl":
        vb = diffusion.num_steps * _bits(diffusion, c, t, model_output, x0, xt)
        return Losses(vb, mse, vb)
    if not diffusion.learns_variance:
        return Losses(mse, mse, jnp.zeros_like(mse))
    variance_channels = model_output[..., x0.shape[-1] :]
    detached = jnp.concatenate([jax.lax.stop_gradient(output), variance_channels], axis=-1)
    weight = VLB_WEIGHT * diffusion.num_steps if objective == "rescaled_mse" else 1.0
    vb = weight * _bits(diffusion, c, t, detached, x0, xt)
    return Losses(mse + vb, mse, vb)


def _bits(
    diffusion: Diffusion,
    c: Coefficients,
    t: Int[Array, "B"],
    model_output: NetworkOutput,
    x0: Latents,
    xt: Latents,
) -> PerSample:
    return step_bits(c, t, predict(diffusion, c, model_output, xt), x0, xt)
