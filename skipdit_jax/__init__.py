"""Diffusion Transformers with long skips and Skip-Cache sampling, in JAX."""

from skipdit_jax.caching.policy import BlockCache, SkipCache
from skipdit_jax.checkpoints import CheckpointError
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.encoder_weights import export_vae, load_vae
from skipdit_jax.encoders.pixels import DecodeOptions, decode_latents, encode_pixels
from skipdit_jax.pipeline import Sampler, sample
from skipdit_jax.registry import create_model, init_params
from skipdit_jax.sampling.guidance import Guidance
from skipdit_jax.weights import export_checkpoint, load_checkpoint

__version__ = "0.1.0"  # pyproject.toml takes it from here

__all__ = [
    "BlockCache",
    "CheckpointError",
    "DecodeOptions",
    "Diffusion",
    "Guidance",
    "Sampler",
    "SkipCache",
    "__version__",
    "create_model",
    "decode_latents",
    "encode_pixels",
    "export_checkpoint",
    "export_vae",
    "init_params",
    "load_checkpoint",
    "load_vae",
    "sample",
]
