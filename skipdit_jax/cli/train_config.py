"""Where config files of version 0.1 find `default_config`; it is `skipdit_jax.runs`' now."""

from skipdit_jax.runs.train_config import default_config

__all__ = ["default_config"]
