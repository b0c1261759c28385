"""Stage two of Latte-skip (text to video): everything learns, from the weights of stage one.

    python train.py --config configs/latte_t2v_skip_stage2.py --workdir runs/latte_t2v_stage2 \\
        --config.data.path=LATENTS

LATENTS, and what is published: configs/latte_t2v_skip_stage1.py.
"""

import ml_collections

from skipdit_jax.runs import load_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration of the run."""
    config = load_config("latte_t2v_skip_stage1", beside=__file__)
    config.steps = 100_000
    config.trainable = ()
    config.init.ckpt = "runs/latte_t2v_stage1"
    config.init.allow_missing = ()
    return config
