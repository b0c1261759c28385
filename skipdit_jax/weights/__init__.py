"""Weights for users: from any known file to a network and its parameters, and back."""

from skipdit_jax.weights.autoencoders import export_vae, fetch_vae, load_vae, vae_of
from skipdit_jax.weights.backbones import (
    export_checkpoint,
    load_checkpoint,
    load_opened,
    model_of,
    open_weights,
)
from skipdit_jax.weights.networks import (
    RUN_WEIGHTS,
    assumptions,
    fields_of,
    network_of,
    open_known,
)

__all__ = [
    "RUN_WEIGHTS",
    "assumptions",
    "export_checkpoint",
    "export_vae",
    "fetch_vae",
    "fields_of",
    "load_checkpoint",
    "load_opened",
    "load_vae",
    "model_of",
    "network_of",
    "open_known",
    "open_weights",
    "vae_of",
]
