"""Stage one of Latte-skip (text to video): of a released LatteT2V only the new skips learn.

    python -m skipdit_jax.cli.encode --data VIDEOS --num-frames 46 --image-size 512 --vae ema \\
        --out LATENTS --text-encoder hf://maxin-cn/Latte-1
    python train.py --config configs/latte_t2v_skip_stage1.py --workdir runs/latte_t2v_stage1 \\
        --config.data.path=LATENTS
    python train.py --config configs/latte_t2v_skip_stage2.py --workdir runs/latte_t2v_stage2 \\
        --config.data.path=LATENTS

VIDEOS have a caption each (docs/training.md, Training on text). Published (arXiv 2411.17616): clips
of 16 frames with independent images behind them, 512x512, AdamW at 1e-4, steps skipped where the
norm of the gradient is NaN or above 0.02, EMA 0.9999, no captions dropped. The published run shows
the network T5's padding, too; here it is masked, as in sampling. Batch, stride, number of images
and lengths are ours. Not run by us: no GPU was at hand.
"""

import ml_collections

from skipdit_jax.runs import default_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration of the run."""
    config = default_config()
    config.steps = 20_000
    config.batch_size = 32
    config.dtype = "bfloat16"
    config.remat = "blocks"
    config.skip_above = 0.02
    config.trainable = ("^skip_fusions_",)
    config.init.ckpt = "hf://maxin-cn/Latte-1"
    config.init.allow_missing = ("skip_*",)
    config.checkpoint_every = 1_000
    config.keep_every = 10_000

    config.data.name = "latents"
    config.data.path = "latents/captioned_videos"
    config.data.frame_stride = 3
    config.data.use_image_num = 8

    config.model.name = "LatteT2V-XL/2-skip"
    config.model.num_frames = 16
    config.model.text_dropout_prob = 0.0

    config.sampling.steps = "leading50"
    config.sampling.method = "ddim"
    config.sampling.guidance = 7.5
    config.sampling.cache = "N2-700-50"
    config.sampling.vae = "ema"
    return config
