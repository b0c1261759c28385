"""Improved precision and recall: which samples lie among the real ones, and the other way round.

Kynkäänniemi et al. 1904.06991, section 2, eq. 1-2: a set Φ of features spans the union of balls
around its members, each as wide as the way to the k-th nearest of the others,

(1)  f(φ, Φ) = 1 if |φ - φ'|² <= r²(φ') for any φ' of Φ, else 0
     r²(φ')  = the (k+1)-th smallest of |φ' - φ''|² over φ'' of Φ, φ' itself included

(2)  precision = mean of f(sample, reference),   recall = mean of f(reference, samples)

Two blocks of rows (`pairwise`) are compared at a time: the time grows with N M, the memory on the
device with N + M.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from skipdit_jax import compiler
from skipdit_jax.evaluation.features import Features, checked, same_width
from skipdit_jax.evaluation.pairwise import Block, blocks_of, squared_distances

NEIGHBOURS = 3
"""k of the paper and of published tables."""

Radii = Float[np.ndarray, "N"]


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
    ours, real = blocks_of(x, middle), blocks_of(y, middle)
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
    radii = _radii(blocks_of(x, _middle(x, x, half)), neighbours, half)
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


def _radii(blocks: list[Block], neighbours: int, half: bool) -> list[Array]:
    """r² of each block's rows; no ball, -inf, around rows that are not real."""
    found = []
    for block in blocks:
        nearest = jnp.full((len(block.real), neighbours + 1), jnp.inf, jnp.float32)
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
    of_ours, of_real = ([jnp.zeros_like(b.real) for b in blocks] for blocks in (ours, real))
    for i, (a, radii) in enumerate(zip(ours, our_radii, strict=True)):
        for j, (b, others) in enumerate(zip(real, real_radii, strict=True)):
            in_others, in_balls = _within(a, b, radii, others, half=half)
            of_ours[i], of_real[j] = of_ours[i] | in_others, of_real[j] | in_balls
    return np.concatenate(jax.device_get(of_ours)), np.concatenate(jax.device_get(of_real))


@functools.partial(compiler.jit, static_argnames=("half",))
def _nearest(found: Array, rows: Block, others: Block, *, half: bool) -> Array:
    """The smallest distances of each row, ascending, [R,k+1], after another block."""
    both = jnp.concatenate([found, squared_distances(rows, others, half)], axis=1)
    return -jax.lax.top_k(-both, found.shape[1])[0]


@functools.partial(compiler.jit, static_argnames=("half",))
def _within(
    a: Block, b: Block, radii_a: Array, radii_b: Array, *, half: bool
) -> tuple[Array, Array]:
    """(rows of a in any ball of b, rows of b in any ball of a)."""
    away = squared_distances(a, b, half)
    return (away <= radii_b[None]).any(axis=1), (away <= radii_a[:, None]).any(axis=0)
