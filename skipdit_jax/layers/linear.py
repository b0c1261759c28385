"""The dense layer of all families: weights in one type, products in another, sums in float32."""

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Initializer
from jaxtyping import Array, Float

from skipdit_jax.layers.norms import DType


class Linear(nn.Module):
    """x @ kernel + bias, or x @ kernel alone.

    `flax.linen.Dense` rounds to the compute type before the bias is added and cannot return a wider
    type; float32 islands (modulation, GELU) need the accumulator itself.

    Attributes:
      features: width of the output.
      dtype: type of both factors of the product.
      param_dtype: type in which the weights are stored.
      out_dtype: type of the result; None is `dtype`.
      use_bias: whether there is a bias.
    """

    features: int
    dtype: DType = jnp.float32
    param_dtype: DType = jnp.float32
    out_dtype: DType | None = None
    kernel_init: Initializer = nn.initializers.xavier_uniform()
    bias_init: Initializer = nn.initializers.zeros
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "*rows i"]) -> Float[Array, "*rows o"]:
        """Returns [..., features] in `out_dtype`."""
        kernel = self.param(
            "kernel", self.kernel_init, (x.shape[-1], self.features), self.param_dtype
        )
        out_dtype = self.dtype if self.out_dtype is None else self.out_dtype
        # One axis of rows: XLA on CPU contracts the two row axes of a gradient slowly.
        rows = x.reshape(-1, x.shape[-1]).astype(self.dtype)
        product = jnp.matmul(rows, kernel.astype(self.dtype), preferred_element_type=out_dtype)
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype)
            product = product + bias.astype(out_dtype)[None]
        return product.reshape(*x.shape[:-1], self.features)
