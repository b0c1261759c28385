"""Latte-skip on UCF101, class to video, joint with images: settings of the published training.

    python train.py --config configs/latte_ucf101.py --workdir RUN --config.data.path=LATENTS

LATENTS is a folder of latents of whole clips (`skipdit_jax.cli.encode --num-frames 46`, arrays
[T,32,32,4], T >= 46). Published (arXiv 2401.03048, 2411.17616): clips of 16 frames at stride 3 with
8 independent images, AdamW at 1e-4 falling linearly, gradients clipped to 0.1 from a given step on,
EMA 0.9999; samples by 250 DDPM steps, guidance 7. The batch, the length and the step from which
clipping acts are ours. Not run by us: no GPU was at hand.
"""

import ml_collections

from skipdit_jax.runs import default_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration of the run."""
    config = default_config()
    config.steps = 500_000
    config.batch_size = 40
    config.dtype = "bfloat16"
    config.remat = "blocks"
    config.lr_schedule = "linear"
    config.clip_norm = 0.1
    config.clip_from = 20_000
    config.checkpoint_every = 5_000
    config.keep_every = 50_000
    config.sample_every = 10_000

    config.data.name = "latents"
    config.data.path = "latents/ucf101"
    config.data.frame_stride = 3
    config.data.use_image_num = 8

    config.model.name = "Latte-XL/2-skip"
    config.model.num_frames = 16
    config.model.num_classes = 101

    config.sampling.steps = "250"
    config.sampling.guidance = 7.0
    config.sampling.cache = "N3-900-49"
    config.sampling.vae = "ema"
    return config
