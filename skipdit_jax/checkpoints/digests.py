"""Digests of parameter trees, computed where the arrays lie.

Orbax loads flipped bits silently (docs/notes.md, Damage that Orbax does not see), so a checkpoint
carries the digest of what was to be saved, and what was loaded is compared with it. Sums over all
elements do not depend on how an array is split, so a digest holds on any mesh and any number of
processes, and nothing but two numbers per array leaves the devices.
"""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

BITS_PER_BYTE = 8
WORD_BYTES = 4


def digest(tree: Any) -> str:
    """Returns 64 hexadecimal digits that change with any flipped bit, moved or renamed array.

    Args:
      tree: of arrays, numpy or on devices, of at most 4 bytes per element.
    """
    paths, leaves = zip(*_named_leaves(tree), strict=True)
    sums = jax.device_get([checksum(leaf) for leaf in leaves])
    sha = hashlib.sha256()
    for path, leaf, numbers in zip(paths, leaves, sums, strict=True):
        sha.update(f"{path} {leaf.shape} {leaf.dtype} {numbers.tolist()}\n".encode())
    return sha.hexdigest()


def _named_leaves(tree: Any) -> list[tuple[str, Any]]:
    named = jax.tree_util.tree_flatten_with_path(tree)[0]
    names = ((jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in named)
    return sorted(names, key=lambda pair: pair[0])


@jax.jit
def checksum(leaf: Array | np.ndarray) -> UInt32[Array, "2"]:
    """Returns the sum of all bit patterns, and their sum weighted by odd numbers, modulo 2^32.

    One flipped bit changes a pattern by a power of two below 2^32, so both sums change; exchanged
    elements change the second.
    """
    words = _words(jnp.asarray(leaf))
    place = jnp.zeros((), jnp.uint32)
    for axis, size in enumerate(words.shape):
        index = jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
        place = jnp.broadcast_to(place, words.shape) * jnp.uint32(size) + index
    weight = jnp.uint32(2) * jnp.broadcast_to(place, words.shape) + jnp.uint32(1)
    return jnp.stack([jnp.sum(words, dtype=jnp.uint32), jnp.sum(words * weight, dtype=jnp.uint32)])


def _words(leaf: Array) -> UInt32[Array, "..."]:
    if leaf.dtype == jnp.bool_:
        return leaf.astype(jnp.uint32)
    size = leaf.dtype.itemsize
    if size > WORD_BYTES:
        raise ValueError(f"digest: an array of {leaf.dtype}, wanted at most {WORD_BYTES} bytes")
    unsigned = jnp.dtype(f"uint{BITS_PER_BYTE * size}")
    return jax.lax.bitcast_convert_type(leaf, unsigned).astype(jnp.uint32)
