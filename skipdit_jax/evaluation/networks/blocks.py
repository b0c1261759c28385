"""What Inception networks are put together from, for pictures and for clips, channel-last."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from skipdit_jax import config as plain
from skipdit_jax.layers.convolution import Padding, convolve
from skipdit_jax.layers.linear import DType

Maps = Float[Array, "B *grid C"]
Pool = Callable[[Maps], Maps]
DTYPES = ("float32", "bfloat16")


def check_types(config: Any) -> None:
    """Raises ValueError for a compute or storage type of a config that is none of `DTYPES`."""
    for name in ("dtype", "param_dtype"):
        kind = getattr(config, name)
        plain.hold(config.FAMILY, [(kind in DTYPES, f"{name} is {kind!r}, wanted {DTYPES}")])


class FixedNorm(nn.Module):
    """Batch norm of statistics that stand in the weights, as a factor and an offset.

    A convolution that it follows takes the factor into its kernel, so that it costs nothing, or
    into its output if that is smaller.

    Attributes:
      epsilon: added to the variance.
      use_scale: whether it has a trained scale.
    """

    epsilon: float
    use_scale: bool = True
    param_dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, channels: int) -> tuple[Float[Array, " C"], Float[Array, " C"]]:
        """Returns (factor, offset), float32 [C]: what is normalised is x * factor + offset."""
        ones, zeros = nn.initializers.ones, nn.initializers.zeros
        kinds = {"bias": zeros, "mean": zeros, "variance": ones}
        kinds |= {"scale": ones} if self.use_scale else {}
        known = {
            name: self.param(name, kind, (channels,), self.param_dtype).astype(jnp.float32)
            for name, kind in kinds.items()
        }
        factor = jax.lax.rsqrt(known["variance"] + jnp.float32(self.epsilon))
        factor = factor * known["scale"] if self.use_scale else factor
        return factor, known["bias"] - known["mean"] * factor


class NormedConvolution(nn.Module):
    """ReLU(norm(convolution)), the convolution without bias.

    Attributes:
      features: channels of the output.
      kernel_size: of each axis of the grid.
      stride: of all axes.
      padding: see `convolve`.
      epsilon: of the norm.
      use_scale: of the norm.
    """

    features: int
    kernel_size: tuple[int, ...]
    stride: int = 1
    padding: tuple[tuple[int, int], ...] | None = None
    epsilon: float = 1e-3
    use_scale: bool = True
    dtype: DType = jnp.float32
    param_dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: Maps) -> Float[Array, "B *grid2 C2"]:
        """Returns [B, *grid, features] in `dtype`."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, self.param_dtype)
        norm = FixedNorm(self.epsilon, self.use_scale, self.param_dtype, name="norm")
        factor, offset = norm(self.features)
        kernel = kernel.astype(jnp.float32)
        after = x.size < kernel.size  # of a small batch it is less to multiply what comes out
        kernel = kernel if after else kernel * factor.reshape(*(1,) * (len(shape) - 1), -1)
        out = convolve(x.astype(self.dtype), kernel.astype(self.dtype), self.stride, self.padding)
        factor, offset = (v.reshape(*(1,) * (out.ndim - 1), -1) for v in (factor, offset))
        out = (out.astype(jnp.float32) * factor).astype(self.dtype) if after else out
        return nn.relu(out + offset.astype(self.dtype))


class Unit(NamedTuple):
    """A convolution of a branch.

    Attributes:
      name: of its parameters.
      features: channels of its output.
      size: of its kernel along each axis.
      stride: of all axes; with more than 1 nothing is padded.
    """

    name: str
    features: int
    size: tuple[int, ...]
    stride: int = 1


class Fork(NamedTuple):
    """Units that read the same and are concatenated."""

    units: tuple[Unit, ...]


Branch = tuple[Pool | Unit | Fork, ...]
"""What one branch does, one after the other."""


class Mixed(nn.Module):
    """Branches that read the same, concatenated (Szegedy et al., arXiv 1512.00567).

    Attributes:
      branches: see `Branch`.
      epsilon: of their norms.
      use_scale: of their norms.
    """

    branches: Sequence[Branch]
    epsilon: float
    use_scale: bool = True
    dtype: DType = jnp.float32
    param_dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: Maps) -> Float[Array, "B *grid2 C2"]:
        """Returns the branches side by side."""
        return jnp.concatenate([self._branch(branch, x) for branch in self.branches], axis=-1)

    def _branch(self, branch: Branch, x: Array) -> Array:
        for part in branch:
            if isinstance(part, Unit):
                x = self._unit(part, x)
            elif isinstance(part, Fork):
                x = jnp.concatenate([self._unit(unit, x) for unit in part.units], axis=-1)
            else:
                x = part(x)
        return x

    def _unit(self, unit: Unit, x: Array) -> Array:
        none = ((0, 0),) * len(unit.size)
        return NormedConvolution(
            unit.features,
            unit.size,
            unit.stride,
            none if unit.stride > 1 else None,
            self.epsilon,
            self.use_scale,
            self.dtype,
            self.param_dtype,
            name=unit.name,
        )(x)


def _over_windows(
    x: Maps,
    combine: Callable[[Any, Any], Any],
    start: float,
    window: Sequence[int],
    stride: Sequence[int],
    edges: Padding,
) -> Array:
    """Windows of one axis after the other: 3 + 3 + 3 numbers for 27."""
    for axis, (n, step, around) in enumerate(zip(window, stride, edges, strict=True), 1):
        if n > 1:
            sizes, steps, padding = [1] * x.ndim, [1] * x.ndim, [(0, 0)] * x.ndim
            sizes[axis], steps[axis], padding[axis] = n, step, around
            x = jax.lax.reduce_window(x, x.dtype.type(start), combine, sizes, steps, padding)
    return x


def max_pool(x: Maps, window: Sequence[int], stride: Sequence[int], padding: Padding) -> Array:
    """The largest of every window.

    Args:
      x: [B, *grid, C].
      window: length along each axis of the grid.
      stride: along each.
      padding: before and after each, of nothing that could be the largest.
    """
    return _over_windows(x, jax.lax.max, -jnp.inf, window, stride, padding)


def average_pool(x: Maps, window: Sequence[int], keep: bool = False) -> Array:
    """The mean of every window, at every place.

    Args:
      x: [B, *grid, C].
      window: length along each axis of the grid; odd where the size is kept.
      keep: whether windows reach over the edge, of which only what lies inside counts.
    """
    grid = x.shape[1:-1]
    around = [(n // 2, n // 2) if keep else (0, 0) for n in window]
    sums = _over_windows(x, jax.lax.add, 0.0, window, (1,) * len(window), around)
    inside = np.ones((), np.float64)
    for n, length, (before, after) in zip(window, grid, around, strict=True):
        there = np.pad(np.ones(length), (before, after))
        inside = inside[..., None] * np.convolve(there, np.ones(n), "valid")
    return sums * (1 / inside).astype(x.dtype)[None, ..., None]


def same_padding(grid: Sequence[int], size: Sequence[int], stride: Sequence[int]) -> Padding:
    """What TensorFlow calls SAME: outputs of ceil(n / stride), the smaller half in front.

    Args:
      grid: lengths of the axes.
      size: of the window along each.
      stride: along each.
    """
    missing = [
        max(-(-n // step) * step - step + window - n, 0)
        for n, window, step in zip(grid, size, stride, strict=True)
    ]
    return [(n // 2, n - n // 2) for n in missing]
