"""Weights for users: from any known file to a network and its parameters, and back."""

from skipdit_jax.weights.autoencoders import export_vae, fetch_vae, load_vae, vae_of
from skipdit_jax.weights.backbones import (
    export_checkpoint,
    load_checkpoint,
    load_opened,
    model_of,
    open_weights,
)
from skipdit_jax.weights.metrics import load_metric_network
from skipdit_jax.weights.networks import (
    RUN_WEIGHTS,
    assumptions,
    fields_of,
    network_of,
    open_known,
)
from skipdit_jax.weights.text_encoders import (
    export_text_encoder,
    find_tokenizer,
    load_text_encoder,
)
from skipdit_jax.weights.texts import (
    condition_of,
    embed_prompts,
    encoders_of,
    negative_prompt_of,
    widths_of,
)

__all__ = [
    "RUN_WEIGHTS",
    "assumptions",
    "condition_of",
    "embed_prompts",
    "encoders_of",
    "export_checkpoint",
    "export_text_encoder",
    "export_vae",
    "fetch_vae",
    "fields_of",
    "find_tokenizer",
    "load_checkpoint",
    "load_metric_network",
    "load_opened",
    "load_text_encoder",
    "load_vae",
    "model_of",
    "negative_prompt_of",
    "network_of",
    "open_known",
    "open_weights",
    "vae_of",
    "widths_of",
]
