"""Training runs as a library user starts them: config, first parameters, files, previews.

>>> from skipdit_jax import runs
>>> config = runs.default_config()
>>> config.model.name, config.data.name, config.steps = "DiT-S/2-skip", "digits", 100

With `job = runs.prepare_training(config, "runs/mine")`, which resumes what is there already,
`runs.run_training(job)` trains to the end.
"""

from skipdit_jax.runs.config_files import load_config
from skipdit_jax.runs.folder import RunFolder
from skipdit_jax.runs.job import TrainingJob, prepare_training
from skipdit_jax.runs.sampling import load_sampler
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
