"""What the samples of a model are: pictures or clips, pixels or latents, of which classes."""

from skipdit_jax.contracts import Backbone
from skipdit_jax.models.conditions import ClassConditioning
from skipdit_jax.published import IMAGENET_LABELS, PIXEL_CHANNELS

CLIP_AXES = 4  # [F,H,W,C]
MAX_DEFAULT_LABELS = 10


def makes_clips(model: Backbone) -> bool:
    """Whether samples are clips [F,H,W,C], not pictures [H,W,C]."""
    return len(model.sample_shape) == CLIP_AXES


def draws_pixels(model: Backbone) -> bool:
    """Whether samples are pictures or clips by themselves, not latents."""
    return model.sample_shape[-1] in PIXEL_CHANNELS


def num_classes(model: Backbone) -> int:
    """How many classes a model is conditioned on; 0 if it knows none."""
    conditioning = model.conditioning
    return conditioning.num_classes if isinstance(conditioning, ClassConditioning) else 0


def default_labels(classes: int) -> tuple[int, ...]:
    """The eight of the published samples where the model knows them, else the first ten."""
    if classes > max(IMAGENET_LABELS):
        return IMAGENET_LABELS
    return tuple(range(min(classes, MAX_DEFAULT_LABELS)))
