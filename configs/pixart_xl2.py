"""PixArt-alpha XL/2 at 512x512 on your own captioned pictures, in bfloat16.

    python -m skipdit_jax.cli.encode --data SHARDS --out LATENTS --vae ema --image-size 512 \\
        --text-encoder hf://PixArt-alpha/PixArt-XL-2-512x512
    python train.py --config configs/pixart_xl2.py --workdir RUN --config.data.path=LATENTS

SHARDS are pictures with a caption each (docs/training.md, Training on text). Published (Chen et
al., arXiv 2310.00426, section 3.1): AdamW at a constant 2e-5 with weight decay 0.03, 120 tokens of
T5-XXL; samples by 20 steps of DPM-Solver, guidance 4.5. Batch, length, the average and the share of
dropped captions are ours. --config.init.ckpt=hf://PixArt-alpha/PixArt-XL-2-512x512 starts from the
released weights, --config.model.name=PixArt-XL/2-skip learns with long skips. Not run by us: no GPU
was at hand.
"""

import ml_collections

from skipdit_jax.runs import default_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration of the run."""
    config = default_config()
    config.steps = 400_000
    config.batch_size = 256
    config.dtype = "bfloat16"
    config.remat = "blocks"
    config.lr = 2e-5
    config.weight_decay = 0.03
    config.checkpoint_every = 5_000
    config.keep_every = 50_000
    config.sample_every = 10_000

    config.data.name = "latents"
    config.data.path = "latents/captioned"

    config.model.name = "PixArt-XL/2"
    config.model.input_size = 64
    config.model.text_dropout_prob = 0.1

    config.sampling.steps = "linspace20"
    config.sampling.method = "dpm++"
    config.sampling.guidance = 4.5
    config.sampling.vae = "ema"
    return config
