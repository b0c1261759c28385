"""Tables of a diffusion that visits some of the training timesteps: float64, then float32 once.

Letters as in gaussian.py. Index 0 is the least noisy kept step.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float

Table = Float[np.ndarray, "S"]
Coefficient = Float[Array, "*b"]
LEAST_BETA = 1e-20
"""Under a logarithm, where a step ends at the level that it began with."""


class Tables(NamedTuple):
    """Float64 schedule tables, each [S], index 0 the least noisy step (letters: gaussian.py)."""

    beta: Table
    alpha_bar: Table
    alpha_bar_prev: Table
    alpha_bar_next: Table
    sqrt_alpha_bar: Table
    sqrt_one_minus_alpha_bar: Table
    log_one_minus_alpha_bar: Table
    sqrt_recip_alpha_bar: Table
    sqrt_recipm1_alpha_bar: Table
    posterior_variance: Table
    posterior_log_variance: Table
    posterior_coef_x0: Table
    posterior_coef_xt: Table


class Coefficients(NamedTuple):
    """What one diffusion step needs, float32, the same for training and sampling.

    Each field is [S] (all steps, numpy arrays on the host), [] (the row of one step, as a scan
    hands it out) or [B,1,..,1] (one row per sample, see `gaussian.take`). Letters: gaussian.py.

    Attributes:
      alpha_bar: ᾱ_t.
      alpha_bar_prev: ᾱ of the next less noisy kept step, 1 at index 0.
      alpha_bar_next: ᾱ of the next noisier kept step, 0 at the last index.
      one_minus_alpha_bar: 1 - ᾱ_t, rounded from float64 (DDIM has its own: steppers/single.py).
      log_one_minus_alpha_bar: log(1 - ᾱ_t).
      sqrt_alpha_bar: sqrt(ᾱ_t).
      sqrt_one_minus_alpha_bar: sqrt(1 - ᾱ_t).
      sqrt_recip_alpha_bar: sqrt(1/ᾱ_t).
      sqrt_recipm1_alpha_bar: sqrt(1/ᾱ_t - 1).
      posterior_coef_x0: weight of x_0 in the posterior mean.
      posterior_coef_xt: weight of x_t in the posterior mean.
      posterior_variance: β̃_t.
      posterior_log_variance: log β̃_t, where β̃_0 = 0 is replaced by β̃_1.
      log_beta: log β_t.
      large_variance: β_t, at index 0 β̃_1.
      large_log_variance: its logarithm.
      nonzero: 0 at index 0, the step that draws no noise, else 1.
    """

    alpha_bar: Coefficient
    alpha_bar_prev: Coefficient
    alpha_bar_next: Coefficient
    one_minus_alpha_bar: Coefficient
    log_one_minus_alpha_bar: Coefficient
    sqrt_alpha_bar: Coefficient
    sqrt_one_minus_alpha_bar: Coefficient
    sqrt_recip_alpha_bar: Coefficient
    sqrt_recipm1_alpha_bar: Coefficient
    posterior_coef_x0: Coefficient
    posterior_coef_xt: Coefficient
    posterior_variance: Coefficient
    posterior_log_variance: Coefficient
    log_beta: Coefficient
    large_variance: Coefficient
    large_log_variance: Coefficient
    nonzero: Coefficient


def make_tables(kept_alpha_bar: Table, alpha_bar_prev: Table | None = None) -> Tables:
    """Tables of the process that visits only the kept steps, from their ᾱ.

    Args:
      kept_alpha_bar: ᾱ of the kept steps; 0 of one that is pure noise, where the tables that
        divide by it are infinite.
      alpha_bar_prev: ᾱ where the step from each ends; None is the one before it, and 1.
    """
    before = np.append(1.0, kept_alpha_bar[:-1]) if alpha_bar_prev is None else alpha_bar_prev
    beta = 1.0 - kept_alpha_bar / before
    alpha = 1.0 - beta
    alpha_bar = kept_alpha_bar
    if alpha_bar_prev is None:
        # The product again, not kept_alpha_bar: the published tables carry its rounding.
        alpha_bar = np.cumprod(alpha)
        alpha_bar_prev = np.append(1.0, alpha_bar[:-1])
    with np.errstate(divide="ignore"):
        recip = 1.0 / alpha_bar
    posterior_variance = beta * (1.0 - alpha_bar_prev) / (1.0 - alpha_bar)
    # β̃_0 = 0 has no logarithm; a single step has no β̃_1 either and takes β_0.
    positive = np.append(posterior_variance[1:2], posterior_variance[1:]) if len(beta) > 1 else beta
    tables = Tables(
        beta=beta,
        alpha_bar=alpha_bar,
        alpha_bar_prev=alpha_bar_prev,
        alpha_bar_next=np.append(alpha_bar[1:], 0.0),
        sqrt_alpha_bar=np.sqrt(alpha_bar),
        sqrt_one_minus_alpha_bar=np.sqrt(1.0 - alpha_bar),
        log_one_minus_alpha_bar=np.log(1.0 - alpha_bar),
        sqrt_recip_alpha_bar=np.sqrt(recip),
        sqrt_recipm1_alpha_bar=np.sqrt(recip - 1),
        posterior_variance=posterior_variance,
        posterior_log_variance=np.log(positive),
        posterior_coef_x0=beta * np.sqrt(alpha_bar_prev) / (1.0 - alpha_bar),
        posterior_coef_xt=(1.0 - alpha_bar_prev) * np.sqrt(alpha) / (1.0 - alpha_bar),
    )
    return Tables(*map(read_only, tables))


def make_coefficients(tables: Tables) -> Coefficients:
    """Float32 coefficients [S] of all kept steps, on the host."""
    large = np.append(np.exp(tables.posterior_log_variance[:1]), tables.beta[1:])
    named = {name: table for name, table in tables._asdict().items() if name != "beta"}
    named |= {
        "one_minus_alpha_bar": 1.0 - tables.alpha_bar,
        "log_beta": np.log(np.maximum(tables.beta, LEAST_BETA)),
        "large_variance": large,
        "large_log_variance": np.log(large),
        "nonzero": np.arange(len(tables.beta)) > 0,
    }
    return Coefficients(**{name: value.astype(np.float32) for name, value in named.items()})


def read_only(array: np.ndarray) -> np.ndarray:
    """The array, made read-only: it is shared by every user of a schedule."""
    array.setflags(write=False)
    return array
