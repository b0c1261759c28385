"""The plain twin of digits_skip: the same run without long skips.

python train.py --config configs/digits_plain.py --workdir runs/digits_plain
"""

import ml_collections

from configs import digits_skip


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration of the run."""
    config = digits_skip.get_config()
    config.model.name = "DiT-S/2"
    config.sampling.cache = ""
    return config
