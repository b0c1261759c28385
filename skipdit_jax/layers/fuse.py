"""The long-skip fusion (Skip-DiT, arXiv 2411.17616, section 3)."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Initializer
from jaxtyping import Array, Float

from skipdit_jax.layers.linear import DType, Linear
from skipdit_jax.layers.norms import LayerNorm


def uniform_fan_in(fan_in: int) -> Initializer:
    """Uniform in +-1/sqrt(fan_in): PyTorch's default for a linear's weight and bias."""
    bound = 1.0 / math.sqrt(fan_in)

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class SkipFusion(nn.Module):
    """h <- Linear(LN([h, skip])): 2D -> D. It replaces its input: no residual goes around it.

    Attributes:
      dtype: type of the product; the norm is a float32 island.
      param_dtype: type of the stored weights.
      xavier: xavier-uniform kernel and zero bias (Latte) instead of PyTorch's default (DiT).
    """

    dtype: DType = jnp.float32
    param_dtype: DType = jnp.float32
    xavier: bool = False

    @nn.compact
    def __call__(self, h: Float[Array, "*rows D"], skip: Array) -> Float[Array, "*rows D"]:
        """Returns the new input of a late stage, in `dtype`."""
        width = h.shape[-1]
        default = uniform_fan_in(2 * width)
        inits: dict[str, Any] = (
            {} if self.xavier else {"kernel_init": default, "bias_init": default}
        )
        both = LayerNorm(self.param_dtype, name="norm")(jnp.concatenate([h, skip], axis=-1))
        return Linear(width, self.dtype, self.param_dtype, name="linear", **inits)(both)
