"""Stage two of converting a plain DiT: everything learns, from the weights of stage one.

python train.py --config configs/digits_stage2.py --workdir runs/digits_stage2
"""

import ml_collections

from configs import digits_skip


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration of the run."""
    config = digits_skip.get_config()
    config.steps = 3000
    config.lr = 1e-3
    config.warmup_steps = 100
    config.init.ckpt = "runs/digits_stage1"
    return config
