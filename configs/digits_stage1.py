"""Stage one of converting a plain DiT: only the new skip norms and skip linears learn.

python train.py --config configs/digits_plain.py  --workdir runs/digits_plain
python train.py --config configs/digits_stage1.py --workdir runs/digits_stage1
python train.py --config configs/digits_stage2.py --workdir runs/digits_stage2
"""

import ml_collections

from skipdit_jax.runs import load_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration of the run."""
    config = load_config("digits_skip", beside=__file__)
    config.steps = 2000
    config.lr = 2e-3
    config.warmup_steps = 100
    config.trainable = ("^skip_fusions_",)
    # Weights of any kind: a run folder, a native file, a .pt of the original.
    config.init.ckpt = "runs/digits_plain"
    config.init.allow_missing = ("skip_*",)
    return config
