"""Skip-DiT on your own pictures: a folder that holds a folder of pictures for each class.

    python train.py --config configs/folder.py:PHOTOS --workdir RUN
    python sample.py --ckpt RUN --class-labels cat dog

(`skipdit-train --config folder:PHOTOS` of an installed package.) PHOTOS tells data.path and
model.num_classes; one that holds pictures alone is learned without classes. 33 M parameters at
64x64 pixels, of which a token is 4x4; --config.model.input_size=32 or .patch_size=8 takes less.
A start, not tuned on anything. For 256x256 and more train on latents: docs/training.md.
"""

import ml_collections

from skipdit_jax.data.folder import class_folders
from skipdit_jax.runs import default_config

UNTOLD = 1  # so that class folders given by --config.data.path alone are counted aloud


def get_config(folder: str = "") -> ml_collections.ConfigDict:
    """Returns the configuration of the run.

    Args:
      folder: of the pictures.

    Raises:
      ValueError: there is no such folder.
    """
    config = default_config()
    config.steps = 100_000
    config.batch_size = 64

    config.lr = 2e-4
    config.warmup_steps = 1000
    config.clip_norm = 1.0
    config.ema_decay = 0.9995
    config.sample_every = 2500

    config.diffusion.schedule = "squaredcos_cap_v2"

    config.data.name = "folder"
    config.data.path = folder or "pictures"
    # True doubles what there is to see; not for pictures with writing.
    config.data.flip = False

    config.model.name = "DiT-S/4-skip"
    config.model.input_size = 64
    config.model.in_channels = 3
    config.model.num_classes = len(class_folders(folder)) if folder else UNTOLD

    # What sample.py does with these weights if it is not told otherwise.
    config.sampling.steps = "100"
    config.sampling.guidance = 1.5 if config.model.num_classes else 1.0
    config.sampling.clip = True
    config.sampling.cache = "N3-1000-20"
    return config
