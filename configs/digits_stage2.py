"""Stage two of converting a plain DiT: everything learns, from the weights of stage one.

python train.py --config configs/digits_stage2.py --workdir runs/digits_stage2
"""

import ml_collections

from skipdit_jax.runs import load_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration of the run."""
    config = load_config("digits_skip", beside=__file__)
    config.steps = 3000
    config.lr = 1e-3
    config.warmup_steps = 100
    config.init.ckpt = "runs/digits_stage1"
    return config
