"""Attention with a choice of implementation that never changes behind the user's back."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Initializer
from jaxtyping import Array, Float, Shaped

from skipdit_jax.layers.linear import DType, Linear
from skipdit_jax.layers.norms import LayerNorm
from skipdit_jax.layers.rotary import Tables, rotate

IMPLEMENTATIONS = ("auto", "xla", "cudnn", "fold")
CUDNN_MAX_HEAD_DIM = 128  # on every card: docs/notes.md, Attention on GPU
CUDNN_HEAD_DIM_MULTIPLE = 8

VALUES = "values"  # of `contracts.WORTHS`
TOKENS = -3  # axis of N in [..., N, h, d]
HIDDEN_LOGIT = -1e9  # finite in bfloat16 too; its exponential is 0 beside any logit

Heads = Float[Array, "B *tokens h d"]
Keys = Float[Array, "B *others h d"]
Bias = Float[Array, "B *rows M"]
PerToken = Float[Array, "B *tokens"]
Places = Float[Array, "h N M"]


def resolve(implementation: str, platform: str, dtype: DType, head_dim: int) -> str:
    """Turns "auto" into an implementation.

    On CPU "fold", the fastest there (docs/notes.md, Attention on CPU); on GPU "cudnn" for what its
    kernel takes (docs/notes.md, Attention on GPU); else "xla".

    An explicit choice is returned as it is: if it cannot run, JAX says so.

    Raises:
      ValueError: for an unknown implementation.
    """
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"attention: implementation is {implementation!r}, wanted one of "
            + ", ".join(IMPLEMENTATIONS)
        )
    if implementation != "auto":
        return implementation
    if platform == "cpu":
        return "fold"
    half = jnp.dtype(dtype) in (jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float16))
    fits = head_dim % CUDNN_HEAD_DIM_MULTIPLE == 0 and head_dim <= CUDNN_MAX_HEAD_DIM
    return "cudnn" if platform in ("gpu", "cuda") and half and fits else "xla"


def hiding(
    mask: Shaped[Array, "B *rows M"], logit: float = HIDDEN_LOGIT
) -> Float[Array, "B *rows M"]:
    """A bias of logits that hides the positions where a mask is 0, wholly where others are seen."""
    return (1.0 - mask.astype(jnp.float32)) * logit


def fold_attention(
    q: Heads,
    k: Keys,
    v: Keys,
    axis: int = TOKENS,
    bias: Bias | None = None,
    places: Places | None = None,
    scaled: bool = True,
) -> Heads:
    """softmax(q k^T / sqrt(d) + bias) v with all axes but the attending one folded into one.

    Two plain batched products with a float32 softmax between them: on CPU faster than the einsum
    over four axes (docs/notes.md, Attention on CPU). Whatever the axis, each operand is transposed
    once.

    Args:
      q: [..., h, d].
      k: as q.
      v: as k.
      axis: see `attend`.
      bias: see `attend`.
      places: added to the logits of each head, query and key, [h,N,M], of all rows alike.
      scaled: whether logits are divided by sqrt(d).
    """
    q, k, v = (jnp.moveaxis(a, axis, -2) for a in (q, k, v))
    moved = q.shape  # [..., h, N, d]
    q, k, v = (a.reshape(-1, *a.shape[-2:]) for a in (q, k, v))
    logits = _logits(q, k, scaled)
    if bias is not None:  # the same for all heads and queries
        heads = bias.reshape(-1, 1, bias.shape[-1]).astype(jnp.float32)
        logits = logits + jnp.repeat(heads, moved[-3], axis=0)
    if places is not None:
        logits = logits + jnp.tile(places, (len(logits) // moved[-3], 1, 1))
    weights, total = _softmax(logits)
    out = jnp.einsum("bnm,bmd->bnd", weights.astype(v.dtype), v, preferred_element_type=jnp.float32)
    # Dividing after the product touches d values per token instead of N.
    out = (out / total).astype(v.dtype)
    return jnp.moveaxis(out.reshape(moved), -2, axis)


def _logits(q: Array, k: Array, scaled: bool = True) -> Float[Array, "rows N M"]:
    """Of heads [rows,N,d]; float32."""
    if scaled:
        q = q * jnp.asarray(q.shape[-1] ** -0.5, q.dtype)
    return jnp.einsum("bnd,bmd->bnm", q, k, preferred_element_type=jnp.float32)


def _softmax(logits: Array) -> tuple[Float[Array, "rows N M"], Float[Array, "rows N 1"]]:
    """What a softmax divides, and by what."""
    weights = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
    return weights, jnp.sum(weights, axis=-1, keepdims=True)


def attention_received(q: Heads, k: Heads, axis: int = TOKENS) -> PerToken:
    """How much of all attention each token receives: sums of columns of the mean map of the heads.

    Written as `fold_attention` begins: where that runs beside it XLA computes both once. Beside a
    fused kernel it is a pass of its own, of a quarter of its FLOPs.

    Args:
      q: [..., h, d].
      k: as q.
      axis: see `attend`.
    """
    q, k = (jnp.moveaxis(a, axis, -2) for a in (q, k))
    moved = q.shape  # [..., h, N, d]
    q, k = (a.reshape(-1, *a.shape[-2:]) for a in (q, k))
    weights, total = _softmax(_logits(q, k))
    received = jnp.einsum("bnm,bn->bm", weights, 1 / total[..., 0])
    received = jnp.mean(received.reshape(moved[:-1]), axis=-2)
    return jnp.moveaxis(received, -1, axis - TOKENS - 1)


def smallness(v: Heads) -> PerToken:
    """1 - |v| of each token, summed over heads: DuCa's score beside kernels without a map."""
    return jnp.sum(1 - jnp.linalg.norm(v.astype(jnp.float32), axis=-1), axis=-1)


def attend(
    q: Heads,
    k: Keys,
    v: Keys,
    implementation: str = "auto",
    axis: int = TOKENS,
    bias: Bias | None = None,
) -> Heads:
    """softmax(q k^T / sqrt(d) + bias) v; the softmax is float32 in every implementation.

    Args:
      q: [..., h, d].
      k: as q; along the axis it may be of another length M.
      v: as k.
      implementation: see `resolve`.
      axis: negative; positions of q along it see those of k, all other axes are a batch.
      bias: added to the logits of each of the M positions, [...,M], for heads and queries alike;
        with the axis `TOKENS` only. None: nothing.
    """
    chosen: Any = resolve(implementation, jax.default_backend(), q.dtype, q.shape[-1])
    if chosen == "fold":
        return fold_attention(q, k, v, axis, bias)
    q, k, v = (jnp.moveaxis(a, axis, TOKENS) for a in (q, k, v))
    moved = q.shape  # [..., N, h, d]
    q, k, v = (a.reshape(-1, *a.shape[-3:]) for a in (q, k, v))
    if bias is not None:  # [rows, 1, N, M]: cuDNN wants the queries spelt out
        bias = bias.reshape(-1, 1, 1, bias.shape[-1]).astype(q.dtype)
        bias = jnp.broadcast_to(bias, (len(q), 1, q.shape[1], k.shape[1]))
    # Its float32 softmax meets bf16 values: JAX mixes them on purpose, strict promotion forbids it.
    with jax.numpy_dtype_promotion("standard"):
        out = jax.nn.dot_product_attention(q, k, v, bias, implementation=chosen)
    return jnp.moveaxis(out.reshape(moved), TOKENS, axis)


class SelfAttention(nn.Module):
    """One qkv linear, attention, one output linear.

    Attributes:
      width: D.
      num_heads: h.
      implementation: see `resolve`.
      axis: of the input [..., D], negative: positions along it see each other.
    """

    width: int
    num_heads: int
    implementation: str = "auto"
    axis: int = -2
    dtype: DType = jnp.float32
    param_dtype: DType = jnp.float32

    def setup(self):
        """Makes the parts, named as their parameters."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.qkv, self.proj = Linear(3 * self.width, **types), Linear(self.width, **types)

    def __call__(self, x: Float[Array, "B *tokens D"]) -> Float[Array, "B *tokens D"]:
        """Returns the update, before its gate, in `dtype`."""
        q, k, v = self._heads(x)
        out = attend(q, k, v, self.implementation, self.axis - 1)  # heads add an axis
        return self.proj(out.reshape(x.shape))

    def worth(self, x: Float[Array, "B *tokens D"], kind: str) -> PerToken:
        """What each token is worth; see `contracts.Sublayer`."""
        q, k, v = self._heads(x)
        return smallness(v) if kind == VALUES else attention_received(q, k, self.axis - 1)

    def _heads(self, x: Array) -> list[Array]:
        qkv = self.qkv(x)
        qkv = qkv.reshape(*x.shape[:-1], 3, self.num_heads, self.width // self.num_heads)
        return [qkv[..., part, :, :] for part in range(3)]


class KeysValues(NamedTuple):
    """What a context answers with, ready for all that ask.

    Attributes:
      k: [B,*rows,M,h,d].
      v: as k.
    """

    k: Float[Array, "B *rows M h d"]
    v: Float[Array, "B *rows M h d"]


class Attention(nn.Module):
    """Linears of their own for queries, keys and values, attention, one output linear.

    Attributes:
      width: D.
      num_heads: h.
      implementation: see `resolve`.
      axis: of the input [..., D], negative: positions along it see each other, or the context.
      out_init: how the output linear starts.
      qk_norm: a layer norm over each head of q and of k.
    """

    width: int
    num_heads: int
    implementation: str = "auto"
    axis: int = -2
    dtype: DType = jnp.float32
    param_dtype: DType = jnp.float32
    out_init: Initializer = nn.initializers.xavier_uniform()
    qk_norm: bool = False

    def setup(self):
        """Makes the parts, named as their parameters."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.q, self.k, self.v = (Linear(self.width, **types) for _ in range(3))
        if self.qk_norm:
            self.q_norm, self.k_norm = (LayerNorm(self.param_dtype) for _ in range(2))
        self.proj = Linear(self.width, **types, kernel_init=self.out_init)

    def __call__(
        self,
        x: Float[Array, "B *tokens D"],
        context: Float[Array, "B *rows M E"] | KeysValues | None = None,
        bias: Bias | None = None,
        places: Tables | None = None,
    ) -> Float[Array, "B *tokens D"]:
        """Returns the update, before its gate, in `dtype`.

        Args:
          x: what asks, [..., D].
          context: what answers, [..., M, E], or its `keys_values`; None: x itself.
          bias: see `attend`.
          places: rotary tables of the tokens of x: they turn q, and k where it is of x too.
        """
        q = self._heads(self.q(x), self.q_norm if self.qk_norm else None, places)
        if context is None:
            context = self.keys_values(x, places)
        elif not isinstance(context, KeysValues):
            context = self.keys_values(context)
        out = attend(q, *context, self.implementation, self.axis - 1, bias)  # heads add an axis
        return self.proj(out.reshape(x.shape))

    def worth(
        self, x: Float[Array, "B *tokens D"], kind: str, places: Tables | None = None
    ) -> PerToken:
        """What each token of x is worth to it; see `contracts.Sublayer`."""
        k, v = self.keys_values(x, places)
        if kind == VALUES:
            return smallness(v)
        q = self._heads(self.q(x), self.q_norm if self.qk_norm else None, places)
        return attention_received(q, k, self.axis - 1)

    def keys_values(
        self, context: Float[Array, "B *rows M E"], places: Tables | None = None
    ) -> KeysValues:
        """What a call makes of its context alone; it takes the result in the context's place."""
        k = self._heads(self.k(context), self.k_norm if self.qk_norm else None, places)
        return KeysValues(k, self._heads(self.v(context)))

    def _heads(
        self, found: Array, norm: LayerNorm | None = None, places: Tables | None = None
    ) -> Array:
        found = found.reshape(*found.shape[:-1], self.num_heads, self.width // self.num_heads)
        if norm is not None:
            found = norm(found)
        if places is not None:
            found = rotate(found, places)
        return found.astype(self.dtype)
