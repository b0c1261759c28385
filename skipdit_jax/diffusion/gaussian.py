"""Gaussian diffusion: the equations, once, for training and for sampling.

Letters: x_0 data, x_t noisy data, ε ~ N(0, I), α_t = 1 - β_t, ᾱ_t = α_1 ... α_t (kept steps only).

Ho et al. 2006.11239, eq. 4, 6 and 7:
    (1)  q(x_t | x_0) = N(sqrt(ᾱ_t) x_0, (1 - ᾱ_t) I)
    (2)  x_t = sqrt(ᾱ_t) x_0 + sqrt(1 - ᾱ_t) ε
    (3)  q(x_{t-1} | x_t, x_0) = N(μ̃_t, β̃_t I)
         μ̃_t = sqrt(ᾱ_{t-1}) β_t / (1 - ᾱ_t) x_0 + sqrt(α_t) (1 - ᾱ_{t-1}) / (1 - ᾱ_t) x_t
         β̃_t = β_t (1 - ᾱ_{t-1}) / (1 - ᾱ_t)
(2) solved for x_0 and for ε:
    (4)  x_0 = sqrt(1/ᾱ_t) x_t - sqrt(1/ᾱ_t - 1) ε
    (5)  ε = (sqrt(1/ᾱ_t) x_t - x_0) / sqrt(1/ᾱ_t - 1)
Salimans & Ho 2202.00512, appendix D:
    (6)  v = sqrt(ᾱ_t) ε - sqrt(1 - ᾱ_t) x_0
    (7)  x_0 = sqrt(ᾱ_t) x_t - sqrt(1 - ᾱ_t) v
Nichol & Dhariwal 2102.09672, eq. 15, with a network output r around [-1, 1] and f = (r + 1)/2:
    (8)  log σ_t² = f log β_t + (1 - f) log β̃_t

The network's mean is always (3) at its own x_0, clipped to [-1, 1] on request. The DDIM equations
(Song et al. 2010.02502) are in sampling/steppers/single.py, the variational bound in likelihood.py.
Channels are last and the number of grid axes is free: [B,H,W,C] and [B,F,H,W,C].
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from skipdit_jax.diffusion.schedules import FLOW, Coefficients, Parameterization
from skipdit_jax.typing import Latents

NetworkOutput = Float[Array, "B *grid C_out"]
"""C channels, or 2C with learned variance: first C the prediction, last C the variance."""


class Gaussian(NamedTuple):
    """A diagonal normal distribution over latents, every field [B,*grid,C]."""

    mean: Array
    variance: Array
    log_variance: Array


class Prediction(NamedTuple):
    """What the network says about one step, every field [B,*grid,C].

    Attributes:
      mean: mean of p(x_{t-1} | x_t).
      variance: its variance σ_t².
      log_variance: log σ_t².
      pred_xstart: x_0 as the network sees it, after clipping.
      eps: the noise that (5) implies for that x_0, so it changes with clipping too.
    """

    mean: Array
    variance: Array
    log_variance: Array
    pred_xstart: Array
    eps: Array


def take(coefficients: Coefficients, t: Int[Array, "B"], ndim: int) -> Coefficients:
    """Rows t of coefficients [S] for a batch of latents with `ndim` axes, each [B,1,..,1]."""
    shape = t.shape + (1,) * (ndim - 1)
    return jax.tree.map(lambda column: jnp.asarray(column)[t].reshape(shape), coefficients)


def q_sample(c: Coefficients, x0: Latents, noise: Latents) -> Latents:
    """Noisy latents x_t by (2); `c` holds scalars or one row per sample."""
    return c.sqrt_alpha_bar * x0 + c.sqrt_one_minus_alpha_bar * noise


def q_mean_variance(c: Coefficients, x0: Latents) -> Gaussian:
    """The distribution (1) of x_t given x_0."""
    return _gaussian(c.sqrt_alpha_bar * x0, c.one_minus_alpha_bar, c.log_one_minus_alpha_bar)


def q_posterior(c: Coefficients, x0: Latents, xt: Latents) -> Gaussian:
    """The distribution (3) of x_{t-1} given x_t and x_0; log β̃_0 is taken as log β̃_1."""
    mean = c.posterior_coef_x0 * x0 + c.posterior_coef_xt * xt
    return _gaussian(mean, c.posterior_variance, c.posterior_log_variance)


def predict(
    kind: Parameterization,
    c: Coefficients,
    model_output: NetworkOutput,
    x: Latents,
    clip: bool = False,
) -> Prediction:
    """The network's distribution of x_{t-1} given x_t.

    Args:
      kind: what the output means; a `Diffusion` is one too.
      c: coefficients of the step, scalars or [B,1,..,1].
      model_output: [B,*grid,C], or [B,*grid,2C] with learned variance.
      x: x_t, [B,*grid,C].
      clip: clip x_0 to [-1, 1] (data of that range only, not latents of an autoencoder).

    Raises:
      ValueError: the output has another number of channels than `kind` asks for.
    """
    output, log_variance = split_output(kind, c, model_output, x)
    x0 = _to_xstart(kind, c, output, x)
    if clip:
        x0 = jnp.clip(x0, -1.0, 1.0)
    variance = _variance(kind, c, log_variance)
    mean = q_posterior(c, x0, x).mean
    return Prediction(*_gaussian(mean, variance, log_variance), x0, eps_from_xstart(c, x, x0))


def split_output(
    kind: Parameterization, c: Coefficients, model_output: NetworkOutput, x: Latents
) -> tuple[Latents, Array]:
    """The prediction channels, and log σ_t² by (8) or by the fixed choice (shape of `c`)."""
    channels = check_channels(kind, model_output, x)
    if kind.variance == "learned_range":
        fraction = (model_output[..., channels:] + 1) / 2
        log_variance = fraction * c.log_beta + (1 - fraction) * c.posterior_log_variance
        return model_output[..., :channels], log_variance
    return model_output, fixed_log_variance(kind.variance, c)


def check_channels(kind: Parameterization, model_output: NetworkOutput, x: Latents) -> int:
    """C, of which the network gives as many or, with learned variance, twice as many.

    Raises:
      ValueError: another number of channels.
    """
    channels = x.shape[-1]
    wanted = 2 * channels if kind.learns_variance else channels
    if model_output.shape[-1] != wanted:
        raise ValueError(
            f"model output: found {model_output.shape[-1]} channels, wanted {wanted} for latents "
            f"of {channels} channels with variance {kind.variance!r}"
        )
    return channels


def fixed_log_variance(variance: str, c: Coefficients) -> Array:
    """Log σ_t² of "fixed_small" or "fixed_large", of the shape of `c`."""
    small = variance == "fixed_small"
    return jnp.asarray(c.posterior_log_variance if small else c.large_log_variance)


def training_target(
    kind: Parameterization, c: Coefficients, x0: Latents, noise: Latents
) -> Latents:
    """What the prediction channels are regressed on: ε, x_0 or v by (6)."""
    if kind.prediction == "epsilon":
        return noise
    if kind.prediction == "xstart":
        return x0
    _check_not_flow(kind)
    return c.sqrt_alpha_bar * noise - c.sqrt_one_minus_alpha_bar * x0


def eps_from_xstart(c: Coefficients, x: Latents, x0: Latents) -> Latents:
    """Noise by (5)."""
    return (c.sqrt_recip_alpha_bar * x - x0) / c.sqrt_recipm1_alpha_bar


def _to_xstart(kind: Parameterization, c: Coefficients, output: Latents, x: Latents) -> Latents:
    if kind.prediction == "epsilon":
        return c.sqrt_recip_alpha_bar * x - c.sqrt_recipm1_alpha_bar * output  # (4)
    if kind.prediction == "xstart":
        return output
    _check_not_flow(kind)
    return c.sqrt_alpha_bar * x - c.sqrt_one_minus_alpha_bar * output  # (7)


def told_noise(
    kind: Parameterization, c: Coefficients, model_output: NetworkOutput, x: Latents
) -> Latents:
    """The noise that the output itself tells, whatever x_0 is clipped to.

    Finite where ᾱ_t = 0: of x_0 by (2), of v by (2) and (6), ε = sqrt(ᾱ_t) v + sqrt(1 - ᾱ_t) x_t.
    """
    output = model_output[..., : x.shape[-1]]
    if kind.prediction == "epsilon":
        return output
    if kind.prediction == "xstart":
        return (x - c.sqrt_alpha_bar * output) / c.sqrt_one_minus_alpha_bar
    _check_not_flow(kind)
    return c.sqrt_alpha_bar * output + c.sqrt_one_minus_alpha_bar * x


def _check_not_flow(kind: Parameterization) -> None:
    if kind.prediction == FLOW:
        raise ValueError(f"prediction {FLOW!r}: these equations are of betas, wanted others")


def _variance(kind: Parameterization, c: Coefficients, log_variance: Array) -> Array:
    """σ_t²; β̃_0 = 0 stays exactly zero although its logarithm is replaced."""
    if kind.variance == "fixed_small":
        return jnp.asarray(c.posterior_variance)
    if kind.variance == "fixed_large":
        return jnp.asarray(c.large_variance)
    return jnp.exp(log_variance)


def _gaussian(mean: Array, variance: Array, log_variance: Array) -> Gaussian:
    """Spreads per-step or per-sample variances over the shape of the mean."""
    shape = mean.shape
    return Gaussian(mean, jnp.broadcast_to(variance, shape), jnp.broadcast_to(log_variance, shape))
