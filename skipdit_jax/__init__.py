"""Diffusion Transformers with long skips and Skip-Cache sampling, in JAX."""

from skipdit_jax.caching.calibrated import load_calibrated as load_cache
from skipdit_jax.caching.methods.ada_cache import AdaCache
from skipdit_jax.caching.methods.block_cache import BlockCache
from skipdit_jax.caching.methods.combined import Combined
from skipdit_jax.caching.methods.db_cache import DBCache
from skipdit_jax.caching.methods.deep_cache import DeepCache
from skipdit_jax.caching.methods.delta_dit import DeltaDiT
from skipdit_jax.caching.methods.easy_cache import EasyCache
from skipdit_jax.caching.methods.faster_cache import FasterCache
from skipdit_jax.caching.methods.faster_diffusion import FasterDiffusion
from skipdit_jax.caching.methods.first_block_cache import FirstBlockCache
from skipdit_jax.caching.methods.fora import Fora
from skipdit_jax.caching.methods.mag_cache import MagCache
from skipdit_jax.caching.methods.pab import Pab
from skipdit_jax.caching.methods.sea_cache import SeaCache
from skipdit_jax.caching.methods.skip_cache import SkipCache
from skipdit_jax.caching.methods.smooth_cache import SmoothCache
from skipdit_jax.caching.methods.taylor_seer import TaylorSeer
from skipdit_jax.caching.methods.tea_cache import TeaCache
from skipdit_jax.caching.methods.toca import DuCa, ToCa
from skipdit_jax.caching.notation import register_policy
from skipdit_jax.checkpoints import CheckpointError
from skipdit_jax.contracts import Costs
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.encoders.pixels import DecodeOptions, decode_latents, encode_pixels
from skipdit_jax.models.conditions import ClassConditioning
from skipdit_jax.models.own import own_model
from skipdit_jax.pipeline import Sampled, Sampler, invert, sample
from skipdit_jax.registry import Family, create_model, init_params, register_family
from skipdit_jax.sampling.guidance import Guidance
from skipdit_jax.weights import (
    export_checkpoint,
    export_vae,
    load_checkpoint,
    load_metric_network,
    load_text_encoder,
    load_vae,
)

__version__ = "0.1.0"  # pyproject.toml takes it from here

__all__ = [
    "AdaCache",
    "BlockCache",
    "CheckpointError",
    "ClassConditioning",
    "Combined",
    "Costs",
    "DBCache",
    "DecodeOptions",
    "DeepCache",
    "DeltaDiT",
    "Diffusion",
    "DuCa",
    "EasyCache",
    "Family",
    "FasterCache",
    "FasterDiffusion",
    "FirstBlockCache",
    "Fora",
    "Guidance",
    "MagCache",
    "Pab",
    "Sampled",
    "Sampler",
    "SeaCache",
    "SkipCache",
    "SmoothCache",
    "TaylorSeer",
    "TeaCache",
    "ToCa",
    "__version__",
    "create_model",
    "decode_latents",
    "encode_pixels",
    "export_checkpoint",
    "export_vae",
    "init_params",
    "invert",
    "load_cache",
    "load_checkpoint",
    "load_metric_network",
    "load_text_encoder",
    "load_vae",
    "own_model",
    "register_family",
    "register_policy",
    "sample",
]
