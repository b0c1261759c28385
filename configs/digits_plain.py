"""The plain twin of digits_skip: the same run without long skips.

python train.py --config configs/digits_plain.py --workdir runs/digits_plain
"""

import ml_collections

from skipdit_jax.runs import load_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration of the run."""
    config = load_config("digits_skip", beside=__file__)
    config.model.name = "DiT-S/2"
    config.sampling.cache = ""
    return config
