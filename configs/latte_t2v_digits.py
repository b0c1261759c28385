"""LatteT2V-skip on captioned moving digits (8 frames of 32x32 pixels), trained in pixel space.

python -m benchmarks.digit_words --out WORDS --embeds captions.npz
python train.py --config configs/latte_t2v_digits.py --workdir runs/latte_t2v_digits
"""

import ml_collections

from skipdit_jax.runs import load_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration of the run."""
    config = load_config("latte_digits", beside=__file__)
    config.data.name = "captioned_digits"
    config.data.path = "captions.npz"

    fields = config.model.to_dict()
    del fields["num_classes"]
    config.model = ml_collections.ConfigDict(fields)
    config.model.name = "LatteT2V-S/8-skip"
    config.model.sample_size = 32
    config.model.depth = 6  # pairs of blocks
    config.model.text_width = 64
    config.model.text_tokens = 24
    config.model.text_dropout_prob = 0.1

    config.sampling.method = "ddpm"
    config.sampling.guidance = 4.0
    config.sampling.text_encoder = "digit-words"
    return config
