"""Adaptive layer norm (Peebles & Xie, arXiv 2212.09748, section 3.2), a float32 island.

Its vectors come of a linear in each block (adaLN), or of one linear for all blocks and a table in
each (adaLN-single of PixArt-alpha, arXiv 2310.00426, section 2.3).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from skipdit_jax.layers.linear import DType, Linear
from skipdit_jax.layers.norms import layer_norm

Vector = Float[Array, "B *rows D"]


def modulate(x: Float[Array, "B *tokens D"], shift: Vector, scale: Vector) -> Array:
    """LN(x) (1 + scale) + shift, in float32."""
    return layer_norm(x) * (1.0 + scale) + shift


def gated(x: Float[Array, "B *tokens D"], gate: Vector | None, update: Array) -> Array:
    """X + gate * update, without a gate x + update: in float32, returned in the type of x."""
    wide, update = x.astype(jnp.float32), update.astype(jnp.float32)
    return (wide + (update if gate is None else gate * update)).astype(x.dtype)


def modulation_linear(parts: int, width: int, dtype: DType, param_dtype: DType) -> Linear:
    """The adaLN linear D -> parts * D; zero at the start, so that blocks begin as identities."""
    zeros = nn.initializers.zeros
    return Linear(parts * width, dtype, param_dtype, out_dtype=jnp.float32, kernel_init=zeros)


def modulation(linear: Linear, c: Float[Array, "B *rows D"]) -> Float[Array, "B *rows P"]:
    """linear(SiLU(c)): the vectors of a block side by side, P = parts * D."""
    return linear(jax.nn.silu(c.astype(jnp.float32)))


def modulation_vectors(
    linear: Linear, c: Float[Array, "B *rows P"], h: Float[Array, "B *tokens D"]
) -> list[Array]:
    """Splits `modulation` of c into vectors [B, *rows, 1.., D] that broadcast over h.

    A c that is wider than h is that already: made in advance, see `contracts.StagedModel.prepare`.
    """
    width = h.shape[-1]
    vectors = modulation(linear, c) if c.shape[-1] == width else c
    vectors = vectors.reshape(c.shape[:-1] + (1,) * (h.ndim - c.ndim) + (-1,))
    return jnp.split(vectors, vectors.shape[-1] // width, axis=-1)


class ModulationTable(nn.Module):
    """A trained table [parts, D] that is added to vectors which all blocks share.

    Attributes:
      parts: how many vectors it gives.
      param_dtype: type of the stored table.
    """

    parts: int
    param_dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, shared: Float[Array, "B parts D"], ndim: int) -> list[Array]:
        """Returns vectors [B, 1.., D] that broadcast over rank `ndim`, in float32.

        Args:
          shared: one vector for each part, or a single one for all of them.
          ndim: rank of what is modulated.
        """
        width = shared.shape[-1]
        normal = nn.initializers.normal(width**-0.5)
        table = self.param("table", normal, (self.parts, width), self.param_dtype)
        vectors = shared.astype(jnp.float32) + table.astype(jnp.float32)[None]
        vectors = vectors.reshape(len(shared), self.parts, *(1,) * (ndim - 2), width)
        return [vectors[:, part] for part in range(self.parts)]
