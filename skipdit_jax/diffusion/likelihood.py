"""The variational bound, in bits per dimension.

Letters as in gaussian.py; k = log 2, d the number of values of one sample, data in [-1, 1].

From Ho et al. 2006.11239, eq. 5:
    (1)  L_t = KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) / (k d)      for t > 0
    (2)  L_0 = -log p(x_0 | x_1) / (k d)                                  [decoder, section 3.3]
    (3)  L_T = KL(q(x_T | x_0) || N(0, I)) / (k d)                        [prior]
         bound = L_0 + ... + L_{T-1} + L_T
The decoder integrates a normal density over the bin of one 8-bit level; the outer bins reach to
infinity. Its distribution function is the tanh approximation of Page (1977), which the published
models were trained with:
    (4)  Φ(z) = ½ (1 + tanh(sqrt(2/π) (z + 0.044715 z³)))
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from skipdit_jax.diffusion.gaussian import (
    NetworkOutput,
    Prediction,
    predict,
    q_mean_variance,
    q_posterior,
    q_sample,
    take,
)
from skipdit_jax.diffusion.schedules import Coefficients, Diffusion
from skipdit_jax.typing import Latents

PerSample = Float[Array, "B"]

HALF_BIN = 1 / 255
"""Half the width of an 8-bit level when 0..255 is mapped to [-1, 1]."""
OUTER_BIN = 0.999
"""Data beyond this magnitude is in an outer bin: that level is at 1, its neighbour at 0.992."""
SMALLEST_PROBABILITY = 1e-12
"""Floor under the logarithms of (2): keeps values and gradients finite."""
PAGE_CUBIC = 0.044715
"""Coefficient of the cubic term of (4)."""
PAGE_SCALE = math.sqrt(2.0 / math.pi)
"""Slope of (4) at 0."""


class Bound(NamedTuple):
    """The variational bound of a batch and its parts, S columns from most to least noisy.

    Attributes:
      total: bits per dimension [B].
      prior: (3) [B].
      vb: (1) and, in the last column, (2) [B,S].
      xstart_mse: mean squared error of the predicted x_0 [B,S].
      mse: mean squared error of the implied noise [B,S].
    """

    total: PerSample
    prior: PerSample
    vb: Float[Array, "B S"]
    xstart_mse: Float[Array, "B S"]
    mse: Float[Array, "B S"]


def per_sample_mean(x: Latents) -> PerSample:
    """Mean over everything but the batch."""
    return jnp.mean(x, axis=tuple(range(1, x.ndim)))


def step_bits(
    c: Coefficients, t: Int[Array, "B"], prediction: Prediction, x0: Latents, xt: Latents
) -> PerSample:
    """L_t of (1), or L_0 of (2) where t is index 0, in bits per dimension.

    Args:
      c: coefficients of steps t, scalars or [B,1,..,1].
      t: index of the step among the kept steps.
      prediction: p(x_{t-1} | x_t).
      x0: data in [-1, 1].
      xt: noisy data.
    """
    posterior = q_posterior(c, x0, xt)
    kl = normal_kl(posterior.mean, posterior.log_variance, prediction.mean, prediction.log_variance)
    decoder = -decoder_log_likelihood(x0, prediction.mean, 0.5 * prediction.log_variance)
    return jnp.where(t == 0, per_sample_mean(decoder), per_sample_mean(kl)) / math.log(2)


def normal_kl(mean1: Array, log_variance1: Array, mean2: Array, log_variance2: Array) -> Array:
    """KL(N1 || N2) per value, in nats; arguments broadcast by the usual rules."""
    return 0.5 * (
        -1.0
        + log_variance2
        - log_variance1
        + jnp.exp(log_variance1 - log_variance2)
        + (mean1 - mean2) ** 2 * jnp.exp(-log_variance2)
    )


def decoder_log_likelihood(x: Latents, mean: Latents, log_scale: Latents) -> Latents:
    """Log probability of the 8-bit level at x under N(mean, exp(log_scale)²), in nats per value.

    The two cdfs of a narrow bin are nearly equal, so their difference is not taken:

        ½ (tanh a - tanh b) = ½ sinh(a - b) / (cosh a cosh b),   ½ (1 + tanh a) = sigmoid(2a)

    in logarithms, with a - b from the width of the bin; all digits of float32 survive.
    """
    inverse_scale = jnp.exp(-log_scale)
    centre, half = inverse_scale * (x - mean), inverse_scale * HALF_BIN
    upper, lower = _page(centre + half), _page(centre - half)
    # (c + h)³ - (c - h)³ = 2h (3c² + h²)
    gap = PAGE_SCALE * 2 * half * (1 + PAGE_CUBIC * (3 * centre**2 + half**2))
    inside = _log_sinh(gap) - _log_cosh(upper) - _log_cosh(lower) - math.log(2)
    log_probability = jnp.where(
        x < -OUTER_BIN,
        jax.nn.log_sigmoid(2 * upper),
        jnp.where(x > OUTER_BIN, jax.nn.log_sigmoid(-2 * lower), inside),
    )
    return jnp.maximum(log_probability, math.log(SMALLEST_PROBABILITY))


def _page(z: Array) -> Array:
    """What stands inside the tanh of (4)."""
    return PAGE_SCALE * (z + PAGE_CUBIC * z**3)


def _log_cosh(z: Array) -> Array:
    return jnp.abs(z) + jnp.log1p(jnp.exp(-2 * jnp.abs(z))) - math.log(2)


def _log_sinh(z: Array) -> Array:
    return z + jnp.log(-jnp.expm1(-2 * z)) - math.log(2)


def prior_bits(diffusion: Diffusion, x0: Latents) -> PerSample:
    """L_T of (3) in bits per dimension."""
    last = jax.tree.map(lambda column: jnp.asarray(column[-1]), diffusion.coefficients())
    q = q_mean_variance(last, x0)
    standard = jnp.zeros_like(x0)
    kl = normal_kl(q.mean, q.log_variance, standard, standard)
    return per_sample_mean(kl) / math.log(2)


def variational_bound(
    diffusion: Diffusion,
    network: Callable[[Latents, Float[Array, "B"]], NetworkOutput],
    x0: Latents,
    noise: Float[Array, "S B *grid C"],
    clip: bool = True,
) -> Bound:
    """The bound of a batch, one scan over all kept steps from the noisiest on.

    Args:
      diffusion: process; S kept steps.
      network: (x_t [B,*grid,C], model timesteps float32 [B]) -> [B,*grid,C_out].
      x0: data in [-1, 1].
      noise: ε of each step, in the order of the scan.
      clip: clip the predicted x_0 to [-1, 1].
    """
    columns = diffusion.coefficients()

    def one_step(_: None, step: tuple[Array, Array, Array]) -> tuple[None, tuple[Array, ...]]:
        index, model_t, eps = step
        t = jnp.full(x0.shape[:1], index)
        c = take(columns, t, x0.ndim)
        xt = q_sample(c, x0, eps)
        p = predict(diffusion, c, network(xt, jnp.full(x0.shape[:1], model_t)), xt, clip)
        errors = (per_sample_mean((p.pred_xstart - x0) ** 2), per_sample_mean((p.eps - eps) ** 2))
        return None, (step_bits(c, t, p, x0, xt), *errors)

    indices = jnp.arange(diffusion.num_steps - 1, -1, -1)
    model_t = jnp.asarray(diffusion.timesteps[::-1], dtype=jnp.float32)
    _, parts = jax.lax.scan(one_step, None, (indices, model_t, noise))
    vb, xstart_mse, mse = (part.T for part in parts)
    prior = prior_bits(diffusion, x0)
    return Bound(jnp.sum(vb, axis=1) + prior, prior, vb, xstart_mse, mse)
