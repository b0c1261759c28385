"""LatteT2V-skip on captioned moving digits (8 frames of 32x32 pixels), trained in pixel space.

python -m benchmarks.digit_words --out WORDS --embeds captions.npz
python train.py --config configs/latte_t2v_digits.py --workdir runs/latte_t2v_digits

A digit that moves can be seen through much noise: eight frames show it. Which way it goes is told
by words alone where the signal has less than about 0.003 of the power: a 30th of the timesteps of
the cosine schedule, a quarter of those of the linear one. And where clips begin anywhere, neither
the words nor the number of a frame alone say where its digit is, only both: of that 6,000 steps
learned the axis and no more. Clips that lead outward give words a meaning of their own.
"""

import ml_collections

from skipdit_jax.runs import load_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration of the run."""
    config = load_config("latte_digits", beside=__file__)
    config.steps = 9000
    config.diffusion.schedule = "linear"
    config.data.name = "captioned_digits"
    config.data.path = "captions.npz"
    config.data.outward = True

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
