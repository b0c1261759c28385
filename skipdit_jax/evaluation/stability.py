"""How smooth a function of the parameters is around them, and how strong long skips are.

Random directions are those of Li et al. 2018, arXiv 1712.09913, section 4: with d_i the i-th filter
of a random direction and θ_i that of the parameters,

    (1)  d_i <- d_i |θ_i| / |d_i|                          d = 0 in biases, norms and all vectors

so that models whose weights differ in scale are moved by the same share. The surface of a function
f is then

    (2)  f(θ + α d + β d'),   α, β on a grid.

Skip-DiT (arXiv 2411.17616) argues from such surfaces of features that long skips make them smooth.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from skipdit_jax import compiler, trees
from skipdit_jax.typing import Params, Scalar

KERNEL_AXES = 2  # a leaf of fewer is no kernel: (1)
FUSION, KERNEL = "skip_fusions_", "linear/kernel"  # of `layers.fuse.SkipFusion` in all families
SMALLEST = 1e-12  # norm below which a feature points nowhere


class Likeness(NamedTuple):
    """How alike two values are, scalars.

    Attributes:
      cosine: of the angle between their features, the mean over rows and tokens.
      away: sum of absolute differences.
      size: sum of absolute values of the first.
    """

    cosine: Any
    away: Any
    size: Any

    @property
    def relative(self) -> Any:
        """The L1 difference relative to the first: away / size."""
        return self.away / self.size


def likeness(before: Float[Array, "*rows D"], after: Float[Array, "*rows D"]) -> Likeness:
    """Compares features in float32 (traceable).

    Args:
      before: values, [...,D].
      after: as many.
    """
    before, after = before.astype(jnp.float32), after.astype(jnp.float32)
    lengths = jnp.linalg.norm(before, axis=-1) * jnp.linalg.norm(after, axis=-1)
    cosine = (before * after).sum(axis=-1) / jnp.maximum(lengths, SMALLEST)
    return Likeness(cosine.mean(), jnp.abs(after - before).sum(), jnp.abs(before).sum())


def filter_normalised(params: Params, seed: int | Sequence[int]) -> Any:
    """A random direction (1) for parameters.

    A filter is what makes one output: a kernel's part along its last axis. The table of an
    embedding is a kernel like others: one filter of it is a feature of all classes.

    Args:
      params: pytree of arrays.
      seed: of numpy's generator.

    Returns:
      A pytree of the same structure, shapes and types.
    """
    rng = np.random.default_rng(seed)
    return jax.tree.map(partial(_normalised, rng), params)


def _normalised(rng: np.random.Generator, leaf: Array | np.ndarray) -> np.ndarray:
    if leaf.ndim < KERNEL_AXES or not jnp.issubdtype(leaf.dtype, jnp.floating):
        return np.zeros(leaf.shape, leaf.dtype)
    filters = (-1, leaf.shape[-1])  # one of a convolution has a window, too
    drawn = rng.standard_normal(leaf.shape).reshape(filters)
    weights = np.asarray(leaf, np.float64).reshape(filters)
    lengths = [np.linalg.norm(one, axis=0, keepdims=True) for one in (weights, drawn)]
    return (drawn * (lengths[0] / lengths[1])).reshape(leaf.shape).astype(leaf.dtype)


def moved(params: Params, first: Any, second: Any, alpha: Scalar, beta: Scalar) -> Any:
    """The parameters at a place of the surface, added up in float32 (traceable)."""

    def one(leaf: Array, along: Array, across: Array) -> Array:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        whole, along, across = (a.astype(jnp.float32) for a in (leaf, along, across))
        return (whole + alpha * along + beta * across).astype(leaf.dtype)

    return jax.tree.map(one, params, first, second)


def surface(
    value: Callable[..., Any],
    params: Params,
    directions: tuple[Any, Any],
    coordinates: Float[np.ndarray, "P"],
    *given: Any,
) -> Any:
    """A function of the parameters on a grid (2): one program, run at every place.

    Args:
      value: (parameters, *given) -> a pytree of arrays; traceable.
      params: θ.
      directions: d and d', see `filter_normalised`.
      coordinates: α and β, [P].
      *given: pytrees of arrays.

    Returns:
      What `value` gives, every leaf [P,P,...]: α first.
    """

    def at(params: Params, along: Any, across: Any, a: Scalar, b: Scalar, *given: Any) -> Any:
        return value(moved(params, along, across, a, b), *given)

    program, places = compiler.jit(at), np.asarray(coordinates, np.float32)
    on_device = jax.device_put((params, *directions))
    rows = [
        _stacked([jax.device_get(program(*on_device, a, b, *given)) for b in places])
        for a in places
    ]
    return _stacked(rows)


def _stacked(found: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *cells: np.stack(cells), *found)


class Spectra(NamedTuple):
    """Spectral norms of the kernels of skip fusions, float64 [K], in the order of their stages.

    Attributes:
      whole: of the kernel.
      deep: of the half that sees what comes from the stage before.
      skip: of the half that sees the skip.
    """

    whole: Float[np.ndarray, "K"]
    deep: Float[np.ndarray, "K"]
    skip: Float[np.ndarray, "K"]


def skip_spectra(params: Params) -> Spectra:
    """The largest singular values of the linears W [2D,D] that fuse skips: [h, skip] W.

    The norm in front of a linear scales its inputs feature by feature; its weights are not counted.

    Args:
      params: of a network of this library; of one without fusions nothing is found, K = 0.
    """
    kernels = {
        int(path.removeprefix(FUSION).partition("/")[0]): np.asarray(leaf, np.float64)
        for path, leaf in trees.flatten(params).items()
        if path.startswith(FUSION) and path.endswith(KERNEL)
    }
    found = [_norms(kernels[number]) for number in sorted(kernels)]
    return Spectra(*np.array(found, np.float64).reshape(-1, len(Spectra._fields)).T)


def _norms(kernel: Float[np.ndarray, "i o"]) -> tuple[float, float, float]:
    half = len(kernel) // 2
    whole, deep, skip = (np.linalg.norm(w, 2) for w in (kernel, kernel[:half], kernel[half:]))
    return float(whole), float(deep), float(skip)
