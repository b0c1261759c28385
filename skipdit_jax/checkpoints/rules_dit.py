"""DiT and Skip-DiT: the weight table, the fixed table, and the config that a state dict shows."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from skipdit_jax.checkpoints import dit_diffusers
from skipdit_jax.checkpoints.dialects import depth_before_gap
from skipdit_jax.checkpoints.errors import CheckpointError
from skipdit_jax.checkpoints.layouts import Claims, WeightLayout
from skipdit_jax.checkpoints.rules import Rule, linear, patch_convolution
from skipdit_jax.layers.positions import sincos_2d
from skipdit_jax.published import CLASS_COUNTS, CLASS_DROPOUT, HEADS
from skipdit_jax.trees import Shape

PATCH_KERNEL = "x_embedder.proj.weight"
LABELS = "y_embedder.embedding_table.weight"
POSITIONS = "pos_embed"
HEAD_BIAS = "final_layer.linear.bias"
HEAD_KERNEL = "final_layer.linear.weight"

Shapes = Mapping[str, Shape]
Config = dict[str, Any]


def rules(config: Mapping[str, Any]) -> tuple[Rule, ...]:
    """Returns the weight table; one table serves all sizes, with skips or without."""
    return (
        Rule(PATCH_KERNEL, "x_embedder/kernel", patch_convolution(config["patch_size"])),
        Rule("x_embedder.proj.bias", "x_embedder/bias"),
        *linear("t_embedder.mlp.0", "t_embedder/fc1"),
        *linear("t_embedder.mlp.2", "t_embedder/fc2"),
        Rule(LABELS, "y_embedder/embedding"),
        Rule(POSITIONS, POSITIONS),  # only where a file holds it rounded, see `fill`
        *linear("blocks.{i}.attn.qkv", "blocks_{i}/attn/qkv"),
        *linear("blocks.{i}.attn.proj", "blocks_{i}/attn/proj"),
        *linear("blocks.{i}.mlp.fc1", "blocks_{i}/mlp/fc1"),
        *linear("blocks.{i}.mlp.fc2", "blocks_{i}/mlp/fc2"),
        *linear("blocks.{i}.adaLN_modulation.1", "blocks_{i}/modulation"),
        *linear("final_layer.linear", "final_layer/linear"),
        *linear("final_layer.adaLN_modulation.1", "final_layer/modulation"),
        Rule("skip_norms.{i}.weight", "skip_fusions_{i}/norm/scale"),
        Rule("skip_norms.{i}.bias", "skip_fusions_{i}/norm/bias"),
        *linear("skip_linears.{i}.linear", "skip_fusions_{i}/linear"),
    )


def fixed_tables(config: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the tensors of a state dict that are no parameters: pos_embed, float32 [1, N, D]."""
    size, patch = config["input_size"], config["patch_size"]
    height, width = (size, size) if isinstance(size, int) else size
    table = sincos_2d(height // patch, width // patch, config["hidden_size"])
    return {POSITIONS: table[None]}


def claims(config: Mapping[str, Any]) -> Claims:
    """Returns how many blocks a config asks for, and the shape of its fixed table."""
    size, patch = config["input_size"], config["patch_size"]
    height, width = (size, size) if isinstance(size, int) else size
    tokens = (height // patch) * (width // patch)
    return Claims(config["depth"], {POSITIONS: (1, tokens, config["hidden_size"])})


def fields_of_shapes(shapes: Shapes, num_heads: int | None = None) -> Config:
    """Returns the fields of `DiTConfig` that the names and shapes of a state dict show.

    The label table is taken to have its null row, so `class_dropout_prob` is the published 0.1,
    unless it has as many rows as a well-known data set has classes, see `published.CLASS_COUNTS`.
    Without a position table, `input_size` is None: nothing else shows it.

    Args:
      shapes: {torch name: shape}.
      num_heads: needed unless (depth, width) is one of the published sizes.

    Raises:
      CheckpointError: a name that tells a size is missing or has an impossible shape, the latents
        are not square, or the number of heads is unknown.
    """
    width, channels, patch, _ = shape_of(shapes, PATCH_KERNEL, 4)
    depth = depth_of(shapes)
    classes, has_null = classes_of_rows(shape_of(shapes, LABELS, 2)[0] if LABELS in shapes else 0)
    return {
        "input_size": _side(shapes) * patch if POSITIONS in shapes else None,
        "patch_size": patch,
        "in_channels": channels,
        "hidden_size": width,
        "depth": depth,
        "num_heads": heads_of(depth, width, num_heads),
        "mlp_ratio": ratio_of(_mlp_width(shapes), width),
        "class_dropout_prob": CLASS_DROPOUT if has_null else 0.0,
        "num_classes": classes,
        "learn_sigma": learns_sigma(shapes, patch * patch * channels),
        "skip": any(name.startswith(("skip_norms.", "skip_linears.")) for name in shapes),
    }


def shape_of(shapes: Shapes, name: str, rank: int) -> Shape:
    """Returns the shape of a tensor that must be there; raises CheckpointError for another rank."""
    if name not in shapes:
        raise CheckpointError(f"cannot tell the model's size: 1 missing: {name}")
    if len(shapes[name]) != rank or 0 in shapes[name]:
        raise CheckpointError(f"{name} has shape {shapes[name]}, wanted {rank} axes")
    return shapes[name]


def classes_of_rows(rows: int) -> tuple[int, bool]:
    """Returns the number of classes of a label table, and whether its last row is the null.

    >>> classes_of_rows(1001), classes_of_rows(1000), classes_of_rows(8)
    ((1000, True), (1000, False), (7, True))
    """
    whole = rows in CLASS_COUNTS or rows <= 1
    return (rows, False) if whole else (rows - 1, True)


def heads_of(depth: int, width: int, num_heads: int | None) -> int:
    """Returns the heads given, or those of a published size; raises CheckpointError for others."""
    heads = num_heads or HEADS.get((depth, width))
    if heads is None:
        raise CheckpointError(
            f"a state dict does not show its heads, and depth {depth} with width {width} is no "
            "published size: give num_heads"
        )
    return heads


def depth_of(shapes: Shapes, block: str = r"blocks\.([0-9]+)\.") -> int:
    """Returns how many blocks there are before the first gap: a stray blocks.99 is surplus."""
    return depth_before_gap(shapes, block)


def ratio_of(part: int, whole: int) -> float:
    """Returns part / whole as a float r for which int(whole * r) is `part`."""
    ratio = part / whole
    return ratio if int(whole * ratio) == part else math.nextafter(ratio, math.inf)


def _side(shapes: Shapes) -> int:
    tokens = shape_of(shapes, POSITIONS, 3)[1]
    side = math.isqrt(tokens)
    if side * side != tokens:
        raise CheckpointError(
            f"{POSITIONS} has {tokens} tokens, no square: load it into a model of the right "
            "input_size"
        )
    return side


def _mlp_width(shapes: Shapes) -> int:
    """Returns the width that most blocks agree on, so that one damaged block is told as such."""
    widths = Counter(
        shape[0] for name, shape in shapes.items() if name.endswith(".mlp.fc1.bias") and shape
    )
    if not widths:
        raise CheckpointError("cannot tell the model's size: 1 missing: blocks.0.mlp.fc1.bias")
    return widths.most_common(1)[0][0]


def learns_sigma(
    shapes: Shapes, patch_numbers: int, bias: str = HEAD_BIAS, kernel: str = HEAD_KERNEL
) -> bool:
    """Whether a head with these names gives the variance too; raises CheckpointError for others."""
    name = bias if bias in shapes else kernel
    outputs = shape_of(shapes, name, 1 if name == bias else 2)[0]
    if outputs not in (patch_numbers, 2 * patch_numbers):
        raise CheckpointError(
            f"{name} has {outputs} outputs, wanted {patch_numbers} or {2 * patch_numbers}"
        )
    return outputs == 2 * patch_numbers


LAYOUT = WeightLayout(
    name="dit",
    label="DiT, Skip-DiT",
    sign=r"blocks\.[0-9]+\.adaLN_modulation\..*",
    fields_of_shapes=fields_of_shapes,
    rules=rules,
    fixed_tables=fixed_tables,
    dialects=(dit_diffusers.DIALECT,),
    described=dit_diffusers.described,
    claims=claims,
)
