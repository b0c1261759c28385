"""Skip-DiT-XL/2 on ImageNet 256x256 latents: DiT's published training, in bfloat16.

    python train.py --config configs/dit_xl2_skip.py --workdir RUN --config.data.path=LATENTS

LATENTS is a folder of latents, made of a prepared ImageNet by

    python -m skipdit_jax.cli.encode --data tfds:imagenet2012 --flip --out LATENTS --vae ema \\
        --orientation stored

or of your own pictures (docs/training.md). Settings of Peebles and Xie (arXiv 2212.09748, section
4): 400,000 steps of 256, AdamW at 1e-4, EMA 0.9999. Not run by us: no GPU was at hand. Compiled for
an H200, a step needs 115 GB without remat: set XLA_PYTHON_CLIENT_MEM_FRACTION=0.92, or
--config.remat=dots (83 GB).
"""

import ml_collections

from skipdit_jax.runs import default_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration of the run."""
    config = default_config()
    config.steps = 400_000
    config.batch_size = 256
    config.dtype = "bfloat16"
    config.checkpoint_every = 5_000
    config.keep_every = 50_000
    config.sample_every = 10_000

    config.data.name = "latents"
    config.data.path = "latents/imagenet256"

    config.model.name = "DiT-XL/2-skip"
    config.model.num_classes = 1000

    config.sampling.steps = "250"
    config.sampling.guidance = 4.0
    config.sampling.cache = "N3-1000-20"
    config.sampling.vae = "ema"
    return config
