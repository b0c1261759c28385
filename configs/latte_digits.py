"""Latte-skip on moving digits (8 frames of 32x32 pixels, 10 classes), trained in pixel space.

python train.py --config configs/latte_digits.py --workdir runs/latte_digits
"""

import ml_collections

from skipdit_jax.runs import default_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration of the run."""
    config = default_config()
    config.steps = 6000
    config.batch_size = 16

    config.lr = 2e-3
    config.lr_schedule = "cosine"
    config.lr_final_fraction = 0.01
    config.warmup_steps = 200
    config.beta2 = 0.99
    config.clip_norm = 1.0
    config.ema_decay = 0.999

    config.log_every = 100
    config.checkpoint_every = 500

    # A token is a patch of 64 pixels. Noise fills all its dimensions, and would fill the narrow
    # hidden state; a digit does not (Li and He, "Back to basics", arXiv 2511.13720).
    config.diffusion.schedule = "squaredcos_cap_v2"
    config.diffusion.prediction = "xstart"
    config.diffusion.variance = "fixed_small"

    config.data.name = "moving_digits"

    config.model.name = "Latte-S/8-skip"
    config.model.input_size = 32
    config.model.in_channels = 1
    config.model.num_classes = 10
    config.model.num_frames = 8
    config.model.hidden_size = 96
    config.model.depth = 12
    config.model.num_heads = 4
    config.model.learn_sigma = False

    # What sample.py does with these weights if it is not told otherwise.
    config.sampling.steps = "50"
    config.sampling.guidance = 2.0
    config.sampling.clip = True
    config.sampling.cache = "N3-900-49"
    return config
