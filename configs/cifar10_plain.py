"""A twin of cifar10_skip without long skips, of as many FLOPs: a block more in place of six skips.

python train.py --config configs/cifar10_plain.py --workdir RUN --config.data.path=DATA_DIR
"""

import ml_collections

from skipdit_jax.runs import load_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration of the run."""
    config = load_config("cifar10_skip", beside=__file__)
    config.model.name = "DiT-S/4"
    config.model.depth = 13
    config.sampling.cache = ""
    return config
