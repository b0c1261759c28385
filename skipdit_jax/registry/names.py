"""From a name to a model: published sizes, and the models that come with the library."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from skipdit_jax.caching.notation import with_fields
from skipdit_jax.caching.plan import CachePolicy
from skipdit_jax.published import VAE_FACTOR
from skipdit_jax.registry.kinds import FAMILIES, build

ASSETS = Path(__file__).parent.parent / "assets"
DIGITS = "dit-digits"
MOVING_DIGITS = "latte-digits"
PICTURES_OF_TEXT = "pixart-digits"
CLIPS_OF_TEXT = "latte-t2v-digits"
DIGIT_WORDS = ASSETS / "digit_words"
"""The bundled text encoder, with its vocabulary."""

_CACHED = re.compile(r"(?P<name>.+)-(?P<every>\d+)")


class NamedModel(NamedTuple):
    """A name resolved.

    Attributes:
      family: key of FAMILIES.
      config: fields of the family's config.
      pixels_per_latent: 1 where the model works on pixels.
      cache: the caching policy that the name asks for, if any.
      weights: the bundled checkpoint, if there is one.
    """

    family: str
    config: Mapping[str, Any]
    pixels_per_latent: int = VAE_FACTOR
    cache: CachePolicy | None = None
    weights: Path | None = None


_SMALL = {"in_channels": 1, "depth": 12, "num_heads": 4, "num_classes": 10, "skip": True}
_PICTURES = {"input_size": 8, "patch_size": 2, "hidden_size": 64, "learn_sigma": True}
_CLIPS = {
    "input_size": 32,
    "patch_size": 8,
    "hidden_size": 96,
    "learn_sigma": False,
    "num_frames": 8,
}
_OF_TEXT = {
    "in_channels": 1,
    "input_size": 32,
    "sample_size": 32,
    "patch_size": 8,
    "hidden_size": 96,
    "num_heads": 4,
    "skip": True,
    "learn_sigma": False,
    "text_width": 64,
    "text_tokens": 24,
    "text_dropout_prob": 0.1,
}
BUNDLED = {
    DIGITS: NamedModel(
        "dit", {**_SMALL, **_PICTURES}, 1, weights=ASSETS / "dit_digits.safetensors"
    ),
    MOVING_DIGITS: NamedModel(
        "latte", {**_SMALL, **_CLIPS}, 1, weights=ASSETS / "latte_digits.safetensors"
    ),
    PICTURES_OF_TEXT: NamedModel(
        "pixart", {**_OF_TEXT, "depth": 8}, 1, weights=ASSETS / "pixart_digits.safetensors"
    ),
    CLIPS_OF_TEXT: NamedModel(
        "latte_t2v",
        {**_OF_TEXT, "depth": 6, "num_frames": 8},
        1,
        weights=ASSETS / "latte_t2v_digits.safetensors",
    ),
}
"""Models that come with the library, of configs/NAME.py."""
BUNDLED_ENCODERS = {"digit-words": DIGIT_WORDS}
"""Text encoders that come with it, for --text-encoder; benchmarks/digit_words.py."""


def model_names() -> list[str]:
    """Every name that `create_model` takes."""
    families = FAMILIES.values()
    sized = [name for family in families for name in family.names()]
    return [*sized, *(f"{name}-N" for family in families for name in family.cached), *BUNDLED]


def find_model(name: str) -> NamedModel:
    """Resolves a model name.

    Raises:
      ValueError: with the list of names, if there is no such model.
    """
    if name in BUNDLED:
        return BUNDLED[name]
    for key, family in FAMILIES.items():
        fields = family.fields_of(name)
        if fields is not None:
            return NamedModel(key, fields, family.pixels_per_latent)
        match = _CACHED.fullmatch(name)
        if match and match["name"] in family.cached:
            full, policy = family.cached[match["name"]]
            cache = with_fields(policy, every=int(match["every"]))
            return find_model(full)._replace(cache=cache)
    raise ValueError(f"unknown model {name!r}: choose one of {', '.join(model_names())}")


def create_model(name: str, *, image_size: int | None = None, **overrides: Any) -> Any:
    """Makes a model by its published name.

    Args:
      name: "DiT-XL/2", "DiT-B/4-skip", "DiT-skip" (= XL/2-skip), "Latte-XL/2-skip", ...:
        `model_names()`; "dit-digits" and "latte-digits" are the models that come with weights.
      image_size: side in pixels, a multiple of the autoencoder's 8; sets `input_size`.
      **overrides: any field of the family's config (`DiTConfig`, `LatteConfig`): `depth`,
        `num_classes`, `num_frames`, `dtype`...

    Returns:
      A flax module, a `contracts.Backbone`; parameters are made by `init_params` or
      `load_checkpoint`.

    Raises:
      ValueError: for an unknown name, an unknown field, or values that describe no model.

    Examples:
      >>> import skipdit_jax as sd
      >>> model = sd.create_model("DiT-XL/2-skip", image_size=256)
      >>> model.num_stages, model.num_skips, model.config.grid
      (28, 14, (32, 32))
      >>> sd.create_model("DiT-S/2", input_size=(16, 8), num_classes=10).sample_shape
      (16, 8, 4)
      >>> sd.create_model("Latte-XL/2-skip", num_classes=101).sample_shape
      (16, 32, 32, 4)
    """
    named = find_model(name)
    if image_size is not None:
        if "input_size" in overrides:
            raise ValueError("create_model: give image_size or input_size, not both")
        if image_size <= 0 or image_size % named.pixels_per_latent:
            raise ValueError(
                f"create_model: image_size is {image_size}, "
                f"wanted a positive multiple of {named.pixels_per_latent}"
            )
        overrides["input_size"] = image_size // named.pixels_per_latent
    return build(named.family, {**named.config, **overrides})
