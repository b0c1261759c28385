"""Skip-DiT on CIFAR-10 (32x32 pixels in colour, 10 classes), trained in pixel space.

    python train.py --config configs/cifar10_skip.py --workdir RUN --config.data.path=DATA_DIR

DATA_DIR is where TFDS has prepared `cifar10` as array_record; benchmarks/cifar10.py does where
nothing can be reached but package registries.
"""

import ml_collections

from skipdit_jax.runs import default_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration of the run."""
    config = default_config()
    config.steps = 6000
    config.batch_size = 64

    config.lr = 1e-3
    config.lr_schedule = "cosine"
    config.lr_final_fraction = 0.01
    config.warmup_steps = 500
    config.beta2 = 0.99
    config.clip_norm = 1.0
    config.ema_decay = 0.999

    config.log_every = 100
    config.checkpoint_every = 500

    config.diffusion.schedule = "squaredcos_cap_v2"

    config.data.name = "cifar10"
    config.data.flip = True

    config.model.name = "DiT-S/4-skip"
    config.model.input_size = 32
    config.model.in_channels = 3
    config.model.num_classes = 10
    config.model.hidden_size = 128
    config.model.depth = 12
    config.model.num_heads = 4

    # What sample.py does with these weights if it is not told otherwise.
    config.sampling.steps = "50"
    config.sampling.guidance = 1.5
    config.sampling.clip = True
    config.sampling.cache = "N3-1000-20"
    return config
