"""LatteT2V, plain and with skips: PixArt's weight table, and the blocks along the frames."""

from collections.abc import Mapping
from typing import Any

from skipdit_jax.checkpoints import rules_pixart
from skipdit_jax.checkpoints.layouts import Claims, WeightLayout
from skipdit_jax.checkpoints.rules import Rule
from skipdit_jax.checkpoints.rules_dit import Config, Shapes

RELEASED_SIDE = 64
"""Of the latents that all released weights were made for: 512 pixels."""


def rules(config: Mapping[str, Any]) -> tuple[Rule, ...]:
    """Returns the weight table; spatial and temporal blocks are numbered alike."""
    temporal = rules_pixart.block_rules("temporal_transformer_blocks.{i}", "temporal_blocks_{i}")
    return (*rules_pixart.rules(config), *temporal)


def fields_of_shapes(shapes: Shapes, num_heads: int | None = None) -> Config:
    """Returns the fields of `LatteT2VConfig` that the names and shapes of a state dict show.

    `input_size` is that of the released weights where no config.json says another one. Args and
    errors are those of `rules_pixart.fields_of_shapes`.
    """
    return {**rules_pixart.fields_of_shapes(shapes, num_heads), "input_size": RELEASED_SIDE}


def claims(config: Mapping[str, Any]) -> Claims:
    """Returns how many blocks a config asks for, and the sizes of its tables."""
    layers, tables = rules_pixart.claims(config)
    frames = (1, config["num_frames"], config["hidden_size"])
    return Claims(2 * layers, {**tables, "temp_pos_embed": frames})


def described(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of `LatteT2VConfig` that a config.json states beyond names and shapes."""
    fields = rules_pixart.described(stated)
    frames = stated.get("video_length")
    return {**fields, "num_frames": frames} if fields and type(frames) is int else fields


LAYOUT = WeightLayout(
    name="latte_t2v",
    label="LatteT2V, LatteT2V-skip",
    sign=r"temporal_transformer_blocks\.[0-9]+\..*",
    fields_of_shapes=fields_of_shapes,
    rules=rules,
    described=described,
    beside=r"caption_projection\.y_embedding",  # a buffer that nothing reads
    claims=claims,
)
