"""Stage one of converting a released DiT-XL/2: only the skip norms and skip linears learn.

    python train.py --config configs/dit_xl2_skip_stage1.py --workdir runs/xl_stage1 \\
        --config.data.path=LATENTS --config.init.ckpt=DiT-XL-2-256x256.pt

Stage two: configs/dit_xl2_skip.py with --config.init.ckpt=runs/xl_stage1. Not run by us: no GPU was
at hand.
"""

import ml_collections

from skipdit_jax.runs import load_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration of the run."""
    config = load_config("dit_xl2_skip", beside=__file__)
    config.steps = 50_000
    config.trainable = ("^skip_fusions_",)
    config.init.ckpt = "DiT-XL-2-256x256.pt"
    config.init.allow_missing = ("skip_*",)
    return config
