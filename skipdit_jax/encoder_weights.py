"""The older name of what `weights` and `registry` hold of autoencoders."""

from skipdit_jax.registry import AUTOENCODERS, abstract_params
from skipdit_jax.weights import export_vae, load_vae

__all__ = ["AUTOENCODERS", "abstract_params", "export_vae", "load_vae"]
