"""Latte and Latte-skip: DiT's weight table, and one more fixed table, that of the frames."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from skipdit_jax.checkpoints import rules_dit
from skipdit_jax.checkpoints.errors import CheckpointError
from skipdit_jax.checkpoints.layouts import Claims, WeightLayout
from skipdit_jax.checkpoints.rules import Rule
from skipdit_jax.layers.positions import sincos_1d

FRAMES = "temp_embed"


def rules(config: Mapping[str, Any]) -> tuple[Rule, ...]:
    """Returns the weight table; blocks are numbered alike, spatial and temporal in turn."""
    return (*rules_dit.rules(config), Rule(FRAMES, FRAMES))


def fixed_tables(config: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns pos_embed [1, N, D] and temp_embed [1, F, D], float32."""
    places = np.arange(config["num_frames"], dtype=np.float64)
    table = sincos_1d(places, config["hidden_size"]).astype(np.float32)
    return {**rules_dit.fixed_tables(config), FRAMES: table[None]}


def claims(config: Mapping[str, Any]) -> Claims:
    """Returns how many blocks a config asks for, and the shapes of its fixed tables."""
    blocks, tables = rules_dit.claims(config)
    frames = (1, config["num_frames"], config["hidden_size"])
    return Claims(blocks, {**tables, FRAMES: frames})


def fields_of_shapes(shapes: rules_dit.Shapes, num_heads: int | None = None) -> rules_dit.Config:
    """Returns the fields of `LatteConfig` that the names and shapes of a state dict show.

    Args and errors are those of `rules_dit.fields_of_shapes`.
    """
    fields = rules_dit.fields_of_shapes(shapes, num_heads)
    if fields["depth"] % 2:
        raise CheckpointError(f"has {fields['depth']} blocks, wanted pairs of them (Latte)")
    return {**fields, "num_frames": rules_dit.shape_of(shapes, FRAMES, 3)[1]}


LAYOUT = WeightLayout(
    name="latte",
    label="Latte, Latte-skip",
    sign=FRAMES,
    fields_of_shapes=fields_of_shapes,
    rules=rules,
    fixed_tables=fixed_tables,
    claims=claims,
    growing={FRAMES: "num_frames"},  # a model may use the first rows only
)
