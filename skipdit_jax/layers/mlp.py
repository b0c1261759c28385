"""The feed-forward half of a block."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from skipdit_jax.layers.linear import DType, Linear


def gelu_tanh(x: Float[Array, "*rows D"]) -> Float[Array, "*rows D"]:
    """GELU by its tanh approximation, as the published models have it."""
    return jax.nn.gelu(x, approximate=True)


class Mlp(nn.Module):
    """D -> hidden -> D with an activation on the float32 accumulator.

    Attributes:
      hidden: width between the linears.
      width: of the output; None is that of the input.
      activation: between the linears.
    """

    hidden: int
    dtype: DType = jnp.float32
    param_dtype: DType = jnp.float32
    width: int | None = None
    activation: Callable[[Array], Array] = gelu_tanh

    @nn.compact
    def __call__(self, x: Float[Array, "*rows i"]) -> Float[Array, "*rows o"]:
        """Returns the update, before its gate, in `dtype`."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        h = Linear(self.hidden, **types, out_dtype=jnp.float32, name="fc1")(x)
        width = x.shape[-1] if self.width is None else self.width
        return Linear(width, **types, name="fc2")(self.activation(h))
