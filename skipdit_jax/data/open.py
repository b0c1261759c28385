"""From a configuration to batches: the only place that knows all kinds of sources."""

from skipdit_jax.data.config import DataConfig
from skipdit_jax.data.digits import IMAGE_SIZE, load_digits
from skipdit_jax.data.folder import FolderSource
from skipdit_jax.data.images import MODES
from skipdit_jax.data.latents import open_latents
from skipdit_jax.data.loader import Batches, Reading, Transform, make_batches
from skipdit_jax.data.sources import ArraySource, CheckedSource, Source, check_labels
from skipdit_jax.data.tfds_source import open_tfds
from skipdit_jax.data.transforms import DrawLatent, RandomFlip, ScalePixels


def open_data(
    config: DataConfig,
    *,
    sample_shape: tuple[int, int, int],
    num_classes: int,
    batch_size: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Batches:
    """Opens a data set as endless batches {"image" float32 [B,H,W,C], "label" int32 [B]}.

    Images are in [-1, 1], latents are multiplied by `config.latent_scale`. All processes together
    see the batches that one process with process_count * batch_size would see.

    Args:
      config: which set, and how it is read.
      sample_shape: (H, W, C) that the model takes.
      num_classes: labels must be below it.
      batch_size: examples in a batch of this process.
      seed: of the order, the mirroring and the draws of latents.
      process_index: of this process.
      process_count: of all processes.

    Raises:
      ValueError: the set is missing, empty, or does not fit the model; the text names the place.
    """
    source = CheckedSource(
        _open_source(config, sample_shape, num_classes),
        shape=sample_shape,
        num_classes=num_classes,
        skip_broken=config.skip_broken,
    )
    return make_batches(
        source,
        batch_size=batch_size,
        seed=seed,
        process_index=process_index,
        process_count=process_count,
        shuffle=config.shuffle,
        transforms=_transforms(config),
        identity={"name": config.name, "split": config.split, "flip": config.flip},
        reading=Reading(workers=config.workers, threads=config.threads, ahead=config.ahead),
    )


def _open_source(config: DataConfig, shape: tuple[int, int, int], num_classes: int) -> Source:
    if config.name == "latents":
        return open_latents(config.path, num_classes=num_classes)
    height, width, channels = shape
    if height != width:
        raise ValueError(f"data.name: {config.name!r} gives squares, the model takes {shape}")
    if config.image_size not in (None, height):
        raise ValueError(f"data.image_size: got {config.image_size}, the model takes {height}")
    if config.name == "digits":
        if shape != (IMAGE_SIZE, IMAGE_SIZE, 1):
            raise ValueError(f"data: images of 'digits' are (8, 8, 1), want {shape}")
        digits = load_digits(config.split)
        check_labels(digits.labels, num_classes, "data.name 'digits'")
        return ArraySource(digits.images, digits.labels)
    if channels not in MODES:
        raise ValueError(
            f"data.name: {config.name!r} gives {' or '.join(map(str, MODES))} channels, "
            f"the model takes {channels}; for latents want data.name 'latents'"
        )
    if config.name == "folder":
        return FolderSource(config.path, size=height, channels=channels, num_classes=num_classes)
    return open_tfds(
        *(config.name, config.split, config.path),
        size=height,
        channels=channels,
        num_classes=num_classes,
    )


def _transforms(config: DataConfig) -> list[Transform]:
    if config.name == "latents":
        return [DrawLatent(config.latent_scale)]
    return [ScalePixels(), *([RandomFlip()] if config.flip else [])]
