"""Small autoencoders with random weights."""

import functools

import jax

from benchmarks.weights import scaled_params
from skipdit_jax.registry import AUTOENCODERS

TINY = {"block_out_channels": (8, 16), "norm_num_groups": 4}
LAYERS = {"vae": 1, "vae_temporal": 2}


@functools.lru_cache(maxsize=8)
def make(family, **changes):
    """(autoencoder, parameters); none of them is zero, norms are near one."""
    kind = AUTOENCODERS[family]
    vae = kind.module(kind.config(**{"layers_per_block": LAYERS[family], **TINY, **changes}))
    return vae, scaled_params(vae)


def latents(*shape):
    """Draws of a normal distribution."""
    return jax.random.normal(jax.random.key(0), shape)
