"""The feed-forward half of a block."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from skipdit_jax.layers.linear import DType, Linear


class Mlp(nn.Module):
    """D -> hidden -> D with tanh-approximated GELU, taken on the float32 accumulator.

    Attributes:
      hidden: width between the linears.
      width: of the output; None is that of the input.
    """

    hidden: int
    dtype: DType = jnp.float32
    param_dtype: DType = jnp.float32
    width: int | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "*rows i"]) -> Float[Array, "*rows o"]:
        """Returns the update, before its gate, in `dtype`."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        h = Linear(self.hidden, **types, out_dtype=jnp.float32, name="fc1")(x)
        width = x.shape[-1] if self.width is None else self.width
        return Linear(width, **types, name="fc2")(jax.nn.gelu(h, approximate=True))
