"""Improved precision and recall: which samples lie among the real ones, and the other way round.

Kynkäänniemi et al. 1904.06991, section 2, eq. 1-2: a set Φ of features spans the union of balls
around its members, each as wide as the way to the k-th nearest of the others,

(1)  f(φ, Φ) = 1 if |φ - φ'|² <= r²(φ') for any φ' of Φ, else 0
     r²(φ')  = the (k+1)-th smallest of |φ' - φ''|² over φ'' of Φ, φ' itself included

(2)  precision = mean of f(sample, reference),   recall = mean of f(reference, samples)

Distances are made in blocks on the device by |a|² + |b|² - 2 a·b and are never there all at once.
Blocks have one shape: another number of samples compiles nothing. A shift changes no distance, so
features are centred first: less cancels. What is left below the resolution of float32 counts as 0,
lest copies of one picture be apart by rounding.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from skipdit_jax import compiler
from skipdit_jax.evaluation.features import Features, checked, same_width

NEIGHBOURS = 3
"""k of the paper and of published tables."""
BLOCK = 2048
RESOLUTION = 8 * float(np.finfo(np.float32).eps)  # of a distance, relative to |a|² + |b|²

Radii = Float[np.ndarray, "N"]


class Block(NamedTuple):
    """Rows of a set on the device; those after its end are zeros and not real."""

    rows: Float[Array, "N D"]
    real: Bool[Array, "N"]


class PrecisionRecall(NamedTuple):
    """The two shares (2), in [0, 1], and what they are the means of.

    Attributes:
      precision: share of samples inside the reference.
      recall: share of the reference inside the samples.
      samples_inside: bool [N].
      reference_inside: bool [P].
    """

    precision: float
    recall: float
    samples_inside: Bool[np.ndarray, "N"]
    reference_inside: Bool[np.ndarray, "P"]


def precision_recall(
    samples: Features, reference: Features, neighbours: int = NEIGHBOURS, half: bool = False
) -> PrecisionRecall:
    """Precision and recall (2) of samples [N,D] against a reference [P,D].

    Both depend on the sizes of the sets: compare numbers of equal sizes only. Exchanging the sets
    exchanges the two numbers.

    Args:
      samples: of the model.
      reference: real ones.
      neighbours: k.
      half: imitate evaluators that round features and every step of a distance to float16, where
        nothing overflows: published numbers of ADM and DiT carry that rounding.

    Raises:
      ValueError: sets of k samples or fewer, or of different D, or numbers that are not finite.
    """
    x, y = _checked("precision_recall", samples, reference, neighbours)
    middle = _middle(x, y, half)
    ours, real = _blocks(x, middle), _blocks(y, middle)
    radii = _radii(ours, neighbours, half), _radii(real, neighbours, half)
    inside_real, inside_ours = _inside(ours, real, *radii, half)
    inside = inside_real[: len(x)], inside_ours[: len(y)]
    return PrecisionRecall(float(inside[0].mean()), float(inside[1].mean()), *inside)


def squared_radii(features: Features, neighbours: int = NEIGHBOURS, half: bool = False) -> Radii:
    """r² (1) of each of the features [N,D], float32 [N], in squared units of the features.

    Raises:
      ValueError: k samples or fewer, or numbers that are not finite.
    """
    x, _ = _checked("squared_radii", features, features, neighbours)
    radii = _radii(_blocks(x, _middle(x, x, half)), neighbours, half)
    return np.concatenate([np.asarray(part) for part in radii])[: len(x)]


def _checked(place: str, first: Features, second: Features, neighbours: int) -> list[np.ndarray]:
    if neighbours < 1:
        raise ValueError(f"{place}: found {neighbours} neighbours, wanted 1 or more")
    found = [checked(place, features, neighbours + 1) for features in (first, second)]
    same_width(place, *(x.shape[1] for x in found))
    return found


def _middle(x: np.ndarray, y: np.ndarray, half: bool) -> Float[np.ndarray, "D"]:
    """Where the features are centred; evaluators that round do not centre."""
    if half:
        return np.zeros(x.shape[1])
    return (x.mean(axis=0, dtype=np.float64) + y.mean(axis=0, dtype=np.float64)) / 2


def _blocks(x: np.ndarray, middle: Float[np.ndarray, "D"]) -> list[Block]:
    blocks = []
    for start in range(0, len(x), BLOCK):
        part = x[start : start + BLOCK]
        rows = np.zeros((BLOCK, x.shape[1]), np.float32)
        rows[: len(part)] = part - middle[None]
        blocks.append(Block(*jax.device_put((rows, np.arange(BLOCK) < len(part)))))
    return blocks


def _radii(blocks: list[Block], neighbours: int, half: bool) -> list[Array]:
    """r² of each block's rows; no ball, -inf, around rows that are not real."""
    found = []
    for block in blocks:
        nearest = jnp.full((BLOCK, neighbours + 1), jnp.inf, jnp.float32)
        for other in blocks:
            nearest = _nearest(nearest, block, other, half=half)
        found.append(jnp.where(block.real, nearest[:, -1], -jnp.inf))
    return found


def _inside(
    ours: list[Block],
    real: list[Block],
    our_radii: list[Array],
    real_radii: list[Array],
    half: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """(f(row, real) of all our rows, f(row, ours) of all real ones): one pass for both."""
    nothing = jnp.zeros(BLOCK, bool)
    of_ours, of_real = [nothing] * len(ours), [nothing] * len(real)
    for i, (a, radii) in enumerate(zip(ours, our_radii, strict=True)):
        for j, (b, others) in enumerate(zip(real, real_radii, strict=True)):
            in_others, in_balls = _within(a, b, radii, others, half=half)
            of_ours[i], of_real[j] = of_ours[i] | in_others, of_real[j] | in_balls
    return np.concatenate(jax.device_get(of_ours)), np.concatenate(jax.device_get(of_real))


@functools.partial(compiler.jit, static_argnames=("half",))
def _nearest(found: Array, rows: Block, others: Block, *, half: bool) -> Array:
    """The smallest distances of each row, ascending, [R,k+1], after another block."""
    both = jnp.concatenate([found, _distances(rows, others, half)], axis=1)
    return -jax.lax.top_k(-both, found.shape[1])[0]


@functools.partial(compiler.jit, static_argnames=("half",))
def _within(
    a: Block, b: Block, radii_a: Array, radii_b: Array, *, half: bool
) -> tuple[Array, Array]:
    """(rows of a in any ball of b, rows of b in any ball of a)."""
    away = _distances(a, b, half)
    return (away <= radii_b[None]).any(axis=1), (away <= radii_a[:, None]).any(axis=0)


def _distances(a: Block, b: Block, half: bool) -> Float[Array, "R S"]:
    """Squared distances; infinite where a row is not real."""
    away = _rounded(a.rows, b.rows) if half else _exact(a.rows, b.rows)
    return jnp.where(a.real[:, None] & b.real[None], away, jnp.inf)


def _exact(a: Float[Array, "R D"], b: Float[Array, "S D"]) -> Float[Array, "R S"]:
    sizes = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None]
    away = sizes - 2 * _products(a, b)
    return jnp.where(away <= RESOLUTION * sizes, 0.0, away)


def _rounded(a: Float[Array, "R D"], b: Float[Array, "S D"]) -> Float[Array, "R S"]:
    """In float16, but for sums of products, which hardware gathers in float32."""
    x, y = a.astype(jnp.float16), b.astype(jnp.float16)
    sizes = [(z * z).astype(jnp.float32).sum(axis=1).astype(jnp.float16) for z in (x, y)]
    products = _products(x.astype(jnp.float32), y.astype(jnp.float32)).astype(jnp.float16)
    away = jnp.maximum(sizes[0][:, None] - 2 * products + sizes[1][None], 0).astype(jnp.float32)
    return jax.lax.cond(jnp.isfinite(away).all(), lambda: away, lambda: _exact(a, b))


def _products(a: Float[Array, "R D"], b: Float[Array, "S D"]) -> Float[Array, "R S"]:
    return jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)
