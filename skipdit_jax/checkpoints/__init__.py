"""Weights on disk: reading anything published without running it, our own format, torch export."""

from skipdit_jax.checkpoints.errors import CheckpointError
from skipdit_jax.checkpoints.export import export_state_dict
from skipdit_jax.checkpoints.fill import fill
from skipdit_jax.checkpoints.load import Checkpoint, config_fields, open_checkpoint
from skipdit_jax.checkpoints.native import save_native

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "config_fields",
    "export_state_dict",
    "fill",
    "open_checkpoint",
    "save_native",
]
