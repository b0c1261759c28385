"""Weights of the networks at either end of a diffusion model, for users."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from skipdit_jax.checkpoints import (
    Checkpoint,
    CheckpointError,
    config_fields,
    export_state_dict,
    fill,
    open_checkpoint,
)
from skipdit_jax.checkpoints.hub import Tell, fetch
from skipdit_jax.checkpoints.released import VAE_SOURCES
from skipdit_jax.encoders.vae import (
    AutoencoderKL,
    AutoencoderKLConfig,
    AutoencoderKLTemporalDecoder,
    AutoencoderKLTemporalDecoderConfig,
)
from skipdit_jax.typing import Params

IMAGE_AXES = 3  # of a diffusion model's sample_shape; clips have one more


class Autoencoder(NamedTuple):
    """How the autoencoders of a family of checkpoints are made."""

    config: type[AutoencoderKLConfig]
    module: Callable[[Any], AutoencoderKL]


AUTOENCODERS = {
    "vae": Autoencoder(AutoencoderKLConfig, AutoencoderKL),
    "vae_temporal": Autoencoder(AutoencoderKLTemporalDecoderConfig, AutoencoderKLTemporalDecoder),
}
"""By the name of the family of their checkpoints."""

UNTOLD = ("norm_num_groups", "scaling_factor")
"""Fields of an autoencoder's config that no weights tell."""


def family_of(vae: AutoencoderKL) -> str:
    """The key of AUTOENCODERS that an autoencoder belongs to."""
    return next(name for name, kind in AUTOENCODERS.items() if type(vae.config) is kind.config)


def abstract_params(vae: AutoencoderKL) -> Params:
    """The tree of parameter shapes and types, without any memory."""
    config = vae.config
    frames = (1,) if config.CLIPS else ()
    shape = (1, *frames, config.factor, config.factor, config.in_channels)
    pixels = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.eval_shape(vae.init, jax.random.key(0), pixels)["params"]


def load_vae(
    source: str | os.PathLike[str], model: nn.Module | None = None, **overrides: Any
) -> tuple[AutoencoderKL, Params]:
    """Reads an autoencoder; whether it decodes pictures or clips is told by its keys.

    Args:
      source: `.bin`/`.pt`/`.pth` or `.safetensors` state dict with the names of diffusers, old or
        new, or a native file; "ema" or "mse" for one of Stability AI's (see `released`), or where
        to fetch one, hf://... or https://... Nothing in it is executed.
      model: the diffusion model that it is meant for, to make sure that the two fit.
      **overrides: fields of `AutoencoderKLConfig` that no weights tell: `scaling_factor`
        (`published.SDXL_LATENT_SCALE`), `norm_num_groups`, `dtype`, `param_dtype`.

    Returns:
      (autoencoder, parameters).

    Raises:
      CheckpointError: (a ValueError) one line with all that is wrong with the file, what it is if
        it is no autoencoder, or why it does not fit the model.
    """
    checkpoint = open_checkpoint(fetch_vae(source))
    vae = vae_of(checkpoint, **overrides)
    if model is not None and (misfit := _misfit(vae, model)):
        raise CheckpointError(f"{checkpoint.path}: {misfit}")
    return vae, fill(checkpoint, abstract_params(vae), dataclasses.asdict(vae.config))


def fetch_vae(source: str | os.PathLike[str], tell: Tell | None = None) -> Path:
    """Returns the file of an autoencoder, named as for `load_vae`; see `hub.fetch`."""
    return fetch(VAE_SOURCES.get(os.fspath(source), source), tell)


def vae_of(checkpoint: Checkpoint, **overrides: Any) -> AutoencoderKL:
    """Makes the autoencoder that an opened checkpoint belongs to.

    Args:
      checkpoint: see `weights.open_weights`.
      **overrides: see `load_vae`.

    Raises:
      CheckpointError: the file is no autoencoder's, or states what makes none.
    """
    if checkpoint.family.name not in AUTOENCODERS:
        raise CheckpointError(
            f"{checkpoint.path}: holds a {checkpoint.family.label} model, wanted an autoencoder"
        )
    kind = AUTOENCODERS[checkpoint.family.name]
    fields = {**config_fields(checkpoint), **overrides}
    try:
        return kind.module(kind.config(**fields))
    except (TypeError, ValueError) as error:  # a native file may state anything
        raise CheckpointError(f"{checkpoint.path}: its config makes no model: {error}") from error


def export_vae(path: str | os.PathLike[str], params: Params, vae: AutoencoderKL) -> None:
    """Writes a state dict with the names of diffusers (the new ones), bit for bit.

    Args:
      path: ends in .safetensors, or in .pt, .pth or .bin for `torch.load(weights_only=True)`.
      params: of the autoencoder.
      vae: the autoencoder.

    Raises:
      CheckpointError: another ending, or a file that cannot be written.
    """
    export_state_dict(path, params, dataclasses.asdict(vae.config), family_of(vae))


def _misfit(vae: AutoencoderKL, model: nn.Module) -> str:
    """Why an autoencoder cannot decode what a model draws; empty if it can."""
    name, channels = type(model).__name__, model.config.in_channels
    if vae.config.latent_channels != channels:
        return (
            f"is an {vae.config.FAMILY} of {vae.config.latent_channels} latent channels, wanted "
            f"{channels} for {name}"
        )
    if vae.config.CLIPS and len(model.config.sample_shape) == IMAGE_AXES:
        return f"is an {vae.config.FAMILY}, which decodes clips, wanted an AutoencoderKL for {name}"
    return ""
