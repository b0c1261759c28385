"""Weights of the autoencoders at either end of a diffusion model."""

import os
from pathlib import Path
from typing import Any

from skipdit_jax.checkpoints import Checkpoint, CheckpointError, export_state_dict
from skipdit_jax.checkpoints.hub import Tell
from skipdit_jax.checkpoints.layouts import OWN_NAMES
from skipdit_jax.checkpoints.pipelines import TEMPORAL_VAE, VAE, fetch_part
from skipdit_jax.checkpoints.released import VAE_SOURCES
from skipdit_jax.contracts import Backbone
from skipdit_jax.encoders.vae import AutoencoderKL
from skipdit_jax.registry import AUTOENCODERS, layout_of, trained
from skipdit_jax.typing import Params
from skipdit_jax.weights.networks import fields_of, filled, network_of, open_known

IMAGE_AXES = 3  # of a diffusion model's sample_shape; clips have one more

UNTOLD = ("norm_num_groups", "scaling_factor")
"""Fields of an autoencoder's config that no weights tell."""


def load_vae(
    source: str | os.PathLike[str], model: Backbone | None = None, **overrides: Any
) -> tuple[AutoencoderKL, Params]:
    """Reads an autoencoder; whether it decodes pictures or clips is told by its keys.

    Args:
      source: `.bin`/`.pt`/`.pth` or `.safetensors` state dict with the names of diffusers, old or
        new, or a native file; "ema" or "mse" for one of Stability AI's (see `released`), or where
        to fetch one, hf://... or https://..., or a pipeline of diffusers that has one. Nothing in
        it is executed.
      model: the diffusion model that it is meant for, to make sure that the two fit; one that was
        loaded carries its factor of latents, the default of `scaling_factor`.
      **overrides: fields of `AutoencoderKLConfig` that no weights tell: `scaling_factor`
        (`published.SDXL_LATENT_SCALE`), `norm_num_groups`, `dtype`, `param_dtype`.

    Returns:
      (autoencoder, parameters).

    Raises:
      CheckpointError: (a ValueError) one line with all that is wrong with the file, what it is if
        it is no autoencoder, or why it does not fit the model.
    """
    clips = model is not None and len(model.sample_shape) > IMAGE_AXES
    checkpoint = open_known(fetch_vae(source, clips=clips))
    carried = None if model is None else trained(model)
    if carried is not None and carried.latent_scale is not None:
        overrides = {"scaling_factor": carried.latent_scale, **overrides}
    vae = vae_of(checkpoint, **overrides)
    if model is not None and (misfit := _misfit(vae, model)):
        raise CheckpointError(f"{checkpoint.path}: {misfit}")
    return vae, filled(checkpoint, vae)


def fetch_vae(
    source: str | os.PathLike[str], tell: Tell | None = None, clips: bool = False
) -> Path:
    """Returns the file of an autoencoder, named as for `load_vae`; see `hub.fetch`.

    Of a pipeline that has one for pictures and one for clips, `clips` says which.
    """
    parts = (TEMPORAL_VAE, VAE) if clips else (VAE,)
    return fetch_part(VAE_SOURCES.get(os.fspath(source), source), *parts, tell=tell)


def vae_of(checkpoint: Checkpoint, **overrides: Any) -> AutoencoderKL:
    """Makes the autoencoder that an opened checkpoint belongs to.

    Args:
      checkpoint: see `weights.open_weights`.
      **overrides: see `load_vae`.

    Raises:
      CheckpointError: the file is no autoencoder's, or states what makes none.
    """
    return network_of(checkpoint, AUTOENCODERS, "an autoencoder", **overrides)


def export_vae(
    path: str | os.PathLike[str], params: Params, vae: AutoencoderKL, *, layout: str = OWN_NAMES
) -> None:
    """Writes a state dict with the names of diffusers (the new ones), bit for bit.

    Args:
      path: ends in .safetensors, or in .pt, .pth or .bin for `torch.load(weights_only=True)`.
      params: of the autoencoder.
      vae: the autoencoder.
      layout: "torch" for these names, "compvis" for those of latent diffusion's first authors.

    Raises:
      CheckpointError: another ending or layout, or a file that cannot be written.
    """
    export_state_dict(path, params, fields_of(vae), layout_of(vae), layout)


def _misfit(vae: AutoencoderKL, model: Backbone) -> str:
    """Why an autoencoder cannot decode what a model draws; empty if it can."""
    name, channels = type(model).__name__, model.sample_shape[-1]
    if vae.config.latent_channels != channels:
        return (
            f"is an {vae.config.FAMILY} of {vae.config.latent_channels} latent channels, wanted "
            f"{channels} for {name}"
        )
    if vae.config.CLIPS and len(model.sample_shape) == IMAGE_AXES:
        return f"is an {vae.config.FAMILY}, which decodes clips, wanted an AutoencoderKL for {name}"
    return ""
