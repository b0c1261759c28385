"""Latte-skip on SkyTimelapse, unconditional: configs/latte_ucf101.py without labels.

    python train.py --config configs/latte_sky.py --workdir RUN --config.data.path=LATENTS

Samples by 250 DDPM steps without guidance. Not run by us: no GPU was at hand.
"""

import ml_collections

from skipdit_jax.runs import load_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration of the run."""
    config = load_config("latte_ucf101", beside=__file__)
    config.data.path = "latents/sky"
    config.model.num_classes = 0
    config.sampling.guidance = 1.0
    return config
