"""Training runs as a library user starts them: config, first parameters, files, previews.

>>> from skipdit_jax import runs
>>> config = runs.default_config()
>>> config.model.name, config.data.name, config.steps = "DiT-S/2-skip", "digits", 100

With `job = runs.prepare_training(config, "runs/mine")`, which resumes what is there already,
`runs.run_training(job)` trains to the end.
"""

import importlib
from typing import TYPE_CHECKING, Any

from skipdit_jax.optional import require
from skipdit_jax.runs.sampling import load_sampler

if TYPE_CHECKING:
    from skipdit_jax.runs.config_files import load_config
    from skipdit_jax.runs.folder import RunFolder
    from skipdit_jax.runs.job import TrainingJob, prepare_training
    from skipdit_jax.runs.train_config import default_config
    from skipdit_jax.runs.training import run_training

__all__ = [
    "RunFolder",
    "TrainingJob",
    "default_config",
    "load_config",
    "load_sampler",
    "prepare_training",
    "run_training",
]

_HOMES = {
    "RunFolder": "folder",
    "TrainingJob": "job",
    "default_config": "train_config",
    "load_config": "config_files",
    "prepare_training": "job",
    "run_training": "training",
}


def __getattr__(name: str) -> Any:
    """Imports a name when it is asked for: sampling reads recipes here and needs no training."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require("train", __name__)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
