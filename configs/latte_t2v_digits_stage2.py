"""Stage two of LatteT2V-skip on captioned digits: more of its training where words decide.

    python train.py --config configs/latte_t2v_digits_stage2.py --workdir RUN

A digit that moves can be seen through much noise: eight frames show it. Which way it goes is told
by words alone where the signal has less than about 0.003 of the power: a 30th of the timesteps of
the cosine schedule, a quarter of those of the linear one. And where clips begin anywhere, neither
the words nor the number of a frame alone say where its digit is, only both: of that 6,000 steps of
stage one learned the axis and no more. Clips that lead outward give words a meaning of their own.
"""

import ml_collections

from skipdit_jax.runs import load_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration of the run."""
    config = load_config("latte_t2v_digits", beside=__file__)
    config.diffusion.schedule = "linear"
    config.data.outward = True
    config.steps = 3000
    config.lr = 1e-3
    config.warmup_steps = 100
    config.init.ckpt = "runs/latte_t2v_digits"
    return config
