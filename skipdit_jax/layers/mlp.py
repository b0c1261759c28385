"""The feed-forward half of a block."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from skipdit_jax.layers.linear import DType, Linear


class Mlp(nn.Module):
    """D -> hidden -> D with tanh-approximated GELU, taken on the float32 accumulator."""

    hidden: int
    dtype: DType = jnp.float32
    param_dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*rows D"]) -> Float[Array, "*rows D"]:
        """Returns the update, before its gate, in `dtype`."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        h = Linear(self.hidden, **types, out_dtype=jnp.float32, name="fc1")(x)
        return Linear(x.shape[-1], **types, name="fc2")(jax.nn.gelu(h, approximate=True))
