"""Small autoencoders with random weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from skipdit_jax.encoder_weights import AUTOENCODERS, abstract_params
from skipdit_jax.trees import flatten, unflatten

TINY = {"block_out_channels": (8, 16), "norm_num_groups": 4}
LAYERS = {"vae": 1, "vae_temporal": 2}


@functools.lru_cache(maxsize=8)
def make(family, **changes):
    """(autoencoder, parameters); none of them is zero, norms are near one."""
    kind = AUTOENCODERS[family]
    vae = kind.module(kind.config(**{"layers_per_block": LAYERS[family], **TINY, **changes}))
    generator = np.random.default_rng(0)

    def draw(path, leaf):
        spread = np.prod(leaf.shape[:-1]) ** -0.5 if leaf.ndim > 1 else 0.1
        noise = spread * generator.standard_normal(leaf.shape)
        return jnp.asarray(noise + path.endswith("scale"), leaf.dtype)

    leaves = flatten(abstract_params(vae))
    return vae, unflatten({path: draw(path, leaf) for path, leaf in leaves.items()})


def latents(*shape):
    """Draws of a normal distribution."""
    return jax.random.normal(jax.random.key(0), shape)
