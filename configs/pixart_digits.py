"""PixArt-alpha with skips on captioned digits (32x32 pixels), trained in pixel space.

python -m benchmarks.digit_words --out WORDS --embeds captions.npz
python train.py --config configs/pixart_digits.py --workdir runs/pixart_digits
"""

import ml_collections

from skipdit_jax.runs import load_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration of the run."""
    config = load_config("latte_t2v_digits", beside=__file__)
    config.steps = 4000
    config.batch_size = 64
    config.diffusion.schedule = "squaredcos_cap_v2"
    config.data.outward = False  # that is of clips
    config.model.name = "PixArt-S/8-skip"
    config.model.depth = 8
    del config.model["num_frames"]
    config.sampling.guidance = 3.0
    return config
