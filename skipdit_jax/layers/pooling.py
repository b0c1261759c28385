"""One vector of a sequence: attention whose only query is the mean."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from skipdit_jax.layers.attention import attend
from skipdit_jax.layers.linear import DType, Linear


class AttentionPool(nn.Module):
    """The mean of all tokens asks it and them, with a trained place for each.

    Attributes:
      width: of the output.
      num_heads: h.
      implementation: see `attention.resolve`.
    """

    width: int
    num_heads: int
    implementation: str = "auto"
    dtype: DType = jnp.float32
    param_dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B L E"]) -> Float[Array, "B D"]:
        """Returns one vector for each sample, in `dtype`."""
        batch, length, width = x.shape
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        normal = nn.initializers.normal(width**-0.5)
        places = self.param("positions", normal, (length + 1, width), self.param_dtype)
        tokens = jnp.concatenate([jnp.mean(x, axis=1, keepdims=True), x], axis=1)
        tokens = tokens.astype(jnp.float32) + places.astype(jnp.float32)[None]

        def heads(name: str, source: Array) -> Array:
            found = Linear(width, **types, name=name)(source)
            return found.reshape(batch, -1, self.num_heads, width // self.num_heads)

        q, k, v = heads("q", tokens[:, :1]), heads("k", tokens), heads("v", tokens)
        out = attend(q, k, v, self.implementation).reshape(batch, width)
        return Linear(self.width, **types, name="proj")(out)
