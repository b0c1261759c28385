"""From sides in pixels, as they are typed, to those of what a model works on."""

from collections.abc import Mapping
from typing import Any

from skipdit_jax import registry
from skipdit_jax.checkpoints import Checkpoint, config_fields
from skipdit_jax.cli.options import SampleOptions
from skipdit_jax.published import PIXEL_CHANNELS
from skipdit_jax.registry import NamedModel


def input_size(
    options: SampleOptions, entry: NamedModel | None, checkpoint: Checkpoint | None
) -> dict[str, Any]:
    """The field of the config that was typed as pixels; {} if none was.

    Raises:
      ValueError: one side without the other, or one that is no whole number of patches.
    """
    typed = _typed(options)
    if not typed:
        return {}
    if entry is not None:
        pixels, patch = entry.pixels_per_latent, _patch(entry.family, entry.config)
    else:
        assert checkpoint is not None, "without a name there is a checkpoint"
        own = config_fields(checkpoint, num_heads=1)  # heads do not matter here
        pixels, patch = units_of(checkpoint, own)
    sides = [latent_side(*side, pixels, patch) for side in typed.items()]
    height, width = sides[0], sides[-1]
    return {"input_size": height if height == width else (height, width)}


def _typed(options: SampleOptions) -> dict[str, int]:
    """Flag -> pixels of the height, then of the width; of a square one flag."""
    if options.image_size is not None:
        return {"--image-size": options.image_size}
    if (options.width is None) != (options.height is None):
        raise ValueError("--width and --height: wanted both")
    if options.height is None or options.width is None:
        return {}
    return {"--height": options.height, "--width": options.width}


def units_of(checkpoint: Checkpoint, own: Mapping[str, Any]) -> tuple[int, int]:
    """(pixels along a latent, latents along a patch) of the model of an opened file.

    Args:
      checkpoint: the file.
      own: its fields of the config.
    """
    family = registry.FAMILIES[checkpoint.family.name]
    pixels = 1 if own.get("in_channels") in PIXEL_CHANNELS else family.pixels_per_latent
    return pixels, _patch(family.name, own)


def _patch(family: str, fields: Mapping[str, Any]) -> int:
    """Latents along a patch; 1 of a family without patches, or of a file that states no number."""
    found = fields.get("patch_size", getattr(registry.FAMILIES[family].config, "patch_size", 1))
    return found if type(found) is int and found > 0 else 1


def latent_side(flag: str, side: int, pixels: int, patch: int) -> int:
    """Latents along a side of so many pixels.

    Args:
      flag: that was typed.
      side: in pixels.
      pixels: along a latent.
      patch: latents along a patch.

    Raises:
      ValueError: it is no whole number of patches.
    """
    unit = pixels * patch
    if side % unit:
        near = max(round(side / unit), 1) * unit
        of = "pixels" if pixels == 1 else f"latents of {pixels} pixels"
        raise ValueError(
            f"{flag} {side}: wanted a multiple of {unit} (patches of {patch} {of}), such as {near}"
        )
    return side // pixels
