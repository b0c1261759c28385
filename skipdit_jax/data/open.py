"""From a configuration to batches: the only place that knows all kinds of sources."""

import logging
from typing import Any

from skipdit_jax.config import check_seed
from skipdit_jax.data.captioned import CaptionedClips, CaptionedImages, open_captioned
from skipdit_jax.data.captioned_digits import DigitClips, DigitPictures
from skipdit_jax.data.clips import (
    ClipSource,
    DrawClip,
    Indices,
    SeededClips,
    StoredClips,
    Window,
)
from skipdit_jax.data.config import (
    CAPTIONED,
    CAPTIONED_DIGITS,
    EMBEDDED,
    LATENTS,
    WITHOUT_FILES,
    DataConfig,
)
from skipdit_jax.data.digits import IMAGE_SIZE, load_digits
from skipdit_jax.data.folder import FolderSource
from skipdit_jax.data.images import MODES
from skipdit_jax.data.latents import open_latents
from skipdit_jax.data.loader import BatchIterator, Reading, Transform, make_batches
from skipdit_jax.data.moving_digits import CANVAS, MovingDigitsSource
from skipdit_jax.data.sources import (
    ANY_CLASS,
    ArraySource,
    CheckedSource,
    Source,
    check_labels,
    classes_of,
)
from skipdit_jax.data.texts import TextShapes, check_texts, null_text_of, texts_of
from skipdit_jax.data.tfds_source import open_tfds
from skipdit_jax.data.transforms import DrawLatent, RandomFlip, ScalePixels, ShowTexts
from skipdit_jax.data.videos import VideoSource

# Split "test" of the moving digits is the same everywhere, whatever the seed of a run.
FIXED_SEED = 0
_log = logging.getLogger(__name__)
FINGERPRINT = "fingerprint"
"""In the position of a run: another set of the same size has another one, see `fingerprints`."""


def open_data(
    config: DataConfig,
    *,
    sample_shape: tuple[int, ...],
    num_classes: int,
    batch_size: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
    texts: TextShapes | None = None,
) -> BatchIterator:
    """Opens a data set as endless batches {"image" float32 [B,H,W,C], "label" int32 [B]}.

    A model of videos gets clips [B,F,H,W,C]. With `config.use_image_num` n, n independent images
    stand behind the frames, [B,F+n,H,W,C], and "image_labels" int32 [B,n] are theirs.

    A model of text gets "text" float32 [B,L,E] and "text_mask" [B,L] in place of labels, [B,1+n,..]
    with images; `constants` of the batches has the same of a dropped caption, named "null_...".

    Images are in [-1, 1], latents are multiplied by `config.latent_scale`. All processes together
    see the batches that one process with process_count * batch_size would see.

    Args:
      config: which set, and how it is read.
      sample_shape: (H, W, C) or (F, H, W, C) that the model takes.
      num_classes: labels must be below it; `sources.ANY_CLASS` for a model without labels.
      batch_size: examples in a batch of this process.
      seed: of the order, the clips, the mirroring and the draws of latents.
      process_index: of this process.
      process_count: of all processes.
      texts: embeddings that a model of text takes.

    Raises:
      ValueError: the set is missing, empty, or does not fit the model; the text names the place.
    """
    if config.name == CAPTIONED or (texts and config.name not in EMBEDDED):
        raise ValueError(
            f"data.name: {config.name!r} has no embeddings of captions, wanted {LATENTS!r} made by "
            "cli.encode --text-encoder for a model of text"
        )
    _check_size(config, sample_shape)
    first: list[Transform] = []
    held: Source | ClipSource
    if len(sample_shape) == 4:
        held = clips = _open_clips(config, sample_shape, num_classes)
        source: Source = Indices(len(clips))
        first = [_draw_clip(config, clips, sample_shape, num_classes)]
    else:
        held = source = _checked_images(config, sample_shape, num_classes)
    classes, known = classes_of(held), getattr(held, "fingerprint", "")
    _check_captions(config, held, num_classes, texts or {})
    _tell_idle_labels(config, classes, num_classes)
    return make_batches(
        source,
        batch_size=batch_size,
        seed=seed,
        process_index=process_index,
        process_count=process_count,
        shuffle=config.shuffle,
        transforms=[*first, *_transforms(config), *([ShowTexts()] if texts else [])],
        identity=_identity(config, sample_shape) | ({FINGERPRINT: known} if known else {}),
        reading=Reading(workers=config.workers, threads=config.threads, ahead=config.ahead),
        classes=classes,
        constants={f"null_{key}": value for key, value in null_text_of(held).items()},
    )


def open_once(
    config: DataConfig, *, sample_shape: tuple[int, ...], num_classes: int, seed: int
) -> Source:
    """Opens a set as its examples, each once and in the stored order, nothing mirrored or scaled.

    Args:
      config: which set.
      sample_shape: (H, W, C) of images, or (F, H, W, C): one clip of each video.
      num_classes: labels must be below it.
      seed: with the number of a video, where its clip begins.

    Raises:
      ValueError: see `open_data`.
    """
    check_seed(seed, "seed")
    _check_size(config, sample_shape)
    if len(sample_shape) == 3:
        return _checked_images(config, sample_shape, num_classes)
    clips = _open_clips(config, sample_shape, num_classes)
    return SeededClips(len(clips), _draw_clip(config, clips, sample_shape, num_classes), seed)


def _check_captions(config: DataConfig, held: object, num_classes: int, wanted: TextShapes) -> None:
    """Makes sure that captions, or labels, are what the model takes."""
    if wanted:
        check_texts(held, wanted, config.path)
    elif num_classes < ANY_CLASS and (found := texts_of(held)):
        raise ValueError(
            f"data.path: {config.path} holds {', '.join(found)} in place of labels, wanted classes "
            "for the model, or a model of text"
        )


def _tell_idle_labels(config: DataConfig, classes: tuple[str, ...], num_classes: int) -> None:
    """A model of more classes than there are is no error, but seldom what was meant."""
    if classes and len(classes) < num_classes < ANY_CLASS:
        _log.warning(
            "data.path: %s: found %d classes, wanted num_classes %d: labels %d..%d are never seen "
            "(model.num_classes=%d fits)",
            *(config.path or config.name, len(classes), num_classes),
            *(len(classes), num_classes - 1, len(classes)),
        )


def _checked_images(config: DataConfig, shape: tuple[int, ...], num_classes: int) -> Source:
    return CheckedSource(
        _open_images(config, shape, num_classes),
        shape=shape,
        num_classes=num_classes,
        skip_broken=config.skip_broken,
    )


def _check_size(config: DataConfig, shape: tuple[int, ...]) -> None:
    """Makes sure that what the config says of the size of examples is what the model takes."""
    *frames, height, width, channels = shape
    if config.image_size is not None and (config.image_size,) * 2 != (height, width):
        raise ValueError(
            f"data.image_size: found {config.image_size}, wanted the model's {height}x{width}"
        )
    of_clips = (config.num_frames, config.frame_stride, config.use_image_num)
    if not frames and of_clips != (None, 1, 0):
        raise ValueError(
            "data: num_frames, frame_stride and use_image_num are of clips, "
            f"found {of_clips}, wanted none for a model of images {shape}"
        )
    if frames and config.num_frames not in (None, frames[0]):
        raise ValueError(
            f"data.num_frames: found {config.num_frames}, wanted the model's {frames[0]}"
        )
    if config.name not in WITHOUT_FILES and channels not in MODES:
        raise ValueError(
            f"data.name: {config.name!r} gives {' or '.join(map(str, MODES))} channels, "
            f"wanted the model's {channels}; latents are of data.name 'latents'"
        )


def _open_images(config: DataConfig, shape: tuple[int, ...], num_classes: int) -> Source:
    if config.name in ("videos", "moving_digits"):
        raise ValueError(
            f"data.name: {config.name!r} gives clips, wanted images {shape} for the model"
        )
    if config.name == "latents":
        return open_latents(config.path, num_classes=num_classes)
    if config.name == "digits":
        if shape != (IMAGE_SIZE, IMAGE_SIZE, 1):
            raise ValueError(f"data: images of 'digits' are (8, 8, 1), wanted {shape}")
        digits = load_digits(config.split)
        check_labels(digits.labels, num_classes, "data.name 'digits'")
        return ArraySource(digits.images, digits.labels)
    if config.name == CAPTIONED_DIGITS:
        _check_canvas(config, shape)
        return DigitPictures(config.split, config.path)
    pixels = _pixels(config, shape)
    if config.name == CAPTIONED:
        return CaptionedImages(open_captioned(config.path, clips=False), **pixels)
    if config.name == "folder":
        return FolderSource(config.path, **pixels, num_classes=num_classes)
    set_name = (config.name, config.split, config.path)
    return open_tfds(*set_name, feature="image", **pixels, num_classes=num_classes)


def _open_clips(config: DataConfig, shape: tuple[int, ...], num_classes: int) -> ClipSource:
    if config.name in ("folder", "digits"):
        raise ValueError(
            f"data.name: {config.name!r} gives images, wanted clips {shape} for the model"
        )
    if config.name == "latents":
        return StoredClips(open_latents(config.path, num_classes=num_classes), name=config.path)
    if config.name == "moving_digits":
        _check_canvas(config, shape[1:])
        seed = FIXED_SEED if config.split == "test" else None
        moving = MovingDigitsSource(config.split, num_digits=config.num_digits, seed=seed)
        check_labels(moving.labels, num_classes, "data.name 'moving_digits'")
        return moving
    if config.name == CAPTIONED_DIGITS:
        _check_canvas(config, shape[1:])
        return DigitClips(config.split, config.path, outward=config.outward)
    pixels = _pixels(config, shape)
    if config.name == CAPTIONED:
        return CaptionedClips(open_captioned(config.path, clips=True), **pixels)
    if config.name == "videos":
        return VideoSource(config.path, **pixels, num_classes=num_classes)
    set_name = (config.name, config.split, config.path)
    return open_tfds(*set_name, feature="video", **pixels, num_classes=num_classes)


def _check_canvas(config: DataConfig, frame: tuple[int, ...]) -> None:
    if frame != (CANVAS, CANVAS, 1):
        raise ValueError(
            f"data: frames of {config.name!r} are ({CANVAS}, {CANVAS}, 1), wanted {frame}"
        )


def _pixels(config: DataConfig, shape: tuple[int, ...]) -> dict[str, Any]:
    """How every reader of encoded pictures and videos makes its pixels."""
    *_, height, width, channels = shape
    return {"size": (height, width), "channels": channels, "orientation": config.orientation}


def _draw_clip(
    config: DataConfig, clips: ClipSource, shape: tuple[int, ...], num_classes: int
) -> DrawClip:
    return DrawClip(
        clips,
        window=Window(shape[0], config.frame_stride),
        frame_shape=shape[1:],
        num_classes=num_classes,
        images=config.use_image_num,
        skip_broken=config.skip_broken,
    )


def _transforms(config: DataConfig) -> list[Transform]:
    if config.name == "latents":
        return [DrawLatent(config.latent_scale)]
    return [ScalePixels(), *([RandomFlip()] if config.flip else [])]


def _identity(config: DataConfig, shape: tuple[int, ...]) -> dict[str, Any]:
    """What a position in the row of examples is a position in."""
    identity = {"name": config.name, "split": config.split, "flip": config.flip}
    if len(shape) == 4:
        identity |= {
            "num_frames": shape[0],
            "frame_stride": config.frame_stride,
            "use_image_num": config.use_image_num,
        }
    if config.name not in WITHOUT_FILES:
        identity["orientation"] = config.orientation
    if config.name == "moving_digits":
        identity["num_digits"] = config.num_digits
    if config.outward:
        identity["outward"] = True
    return identity
