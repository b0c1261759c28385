"""PixArt-alpha: the weight table in the names of diffusers, and the config that a file shows.

The files of its authors are a dialect, `pixart_original`. Tables of positions are in neither's
parameters: the model computes them.
"""

from collections.abc import Mapping
from typing import Any

from skipdit_jax.checkpoints import pixart_original
from skipdit_jax.checkpoints.layouts import Claims, WeightLayout
from skipdit_jax.checkpoints.rules import Rule, linear, patch_convolution
from skipdit_jax.checkpoints.rules_dit import (
    Config,
    Shapes,
    depth_of,
    heads_of,
    learns_sigma,
    ratio_of,
    shape_of,
)

PATCH_KERNEL = "pos_embed.proj.weight"
TEXT_KERNEL = "caption_projection.linear_1.weight"
TIME = "adaln_single.emb"
SIZES = f"{TIME}.resolution_embedder"
BLOCK = r"transformer_blocks\.([0-9]+)\."
CLASSES = ("PixArtTransformer2DModel", "Transformer2DModel", "LatteTransformer3DModel", "LatteT2V")
"""What a config.json of such weights calls its network."""


def rules(config: Mapping[str, Any]) -> tuple[Rule, ...]:
    """Returns the weight table; one table serves all sizes, with skips and size conditions."""
    return (
        Rule(PATCH_KERNEL, "x_embedder/kernel", patch_convolution(config["patch_size"])),
        Rule("pos_embed.proj.bias", "x_embedder/bias"),
        *_two_linears(f"{TIME}.timestep_embedder", "t_embedder"),
        *_two_linears(SIZES, "size_embedder"),
        *_two_linears(f"{TIME}.aspect_ratio_embedder", "ratio_embedder"),
        *linear("adaln_single.linear", "modulation"),
        *_two_linears("caption_projection", "text_projection"),
        *block_rules("transformer_blocks.{i}", "blocks_{i}"),
        *attention_rules("transformer_blocks.{i}.attn2", "blocks_{i}/cross_attn"),
        Rule("scale_shift_table", "final_layer/modulation/table"),
        *linear("proj_out", "final_layer/linear"),
        Rule("skip_norms.{i}.weight", "skip_fusions_{i}/norm/scale"),
        Rule("skip_norms.{i}.bias", "skip_fusions_{i}/norm/bias"),
        *linear("skip_linears.{i}.linear", "skip_fusions_{i}/linear"),
    )


def block_rules(torch: str, ours: str) -> tuple[Rule, ...]:
    """Returns the lines of a block without cross-attention."""
    return (
        Rule(f"{torch}.scale_shift_table", f"{ours}/modulation/table"),
        *attention_rules(f"{torch}.attn1", f"{ours}/attn"),
        *linear(f"{torch}.ff.net.0.proj", f"{ours}/mlp/fc1"),
        *linear(f"{torch}.ff.net.2", f"{ours}/mlp/fc2"),
    )


def attention_rules(torch: str, ours: str) -> tuple[Rule, ...]:
    """Returns the lines of an attention with linears of its own for q, k and v."""
    parts = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj"}
    return tuple(
        rule for name, own in parts.items() for rule in linear(f"{torch}.{name}", f"{ours}/{own}")
    )


def _two_linears(torch: str, ours: str) -> tuple[Rule, ...]:
    return (
        *linear(f"{torch}.linear_1", f"{ours}/fc1"),
        *linear(f"{torch}.linear_2", f"{ours}/fc2"),
    )


def fields_of_shapes(shapes: Shapes, num_heads: int | None = None) -> Config:
    """Returns the fields of `PixArtConfig` that the names and shapes of a state dict show.

    `input_size` is None: only a config.json beside the file shows it.

    Args:
      shapes: {torch name: shape}.
      num_heads: needed unless (depth, width) is one of the published sizes.

    Raises:
      CheckpointError: a name that tells a size is missing or has an impossible shape, or the number
        of heads is unknown.
    """
    width, channels, patch, _ = shape_of(shapes, PATCH_KERNEL, 4)
    depth = depth_of(shapes, BLOCK)
    hidden = shape_of(shapes, "transformer_blocks.0.ff.net.0.proj.bias", 1)[0]
    names = ("proj_out.bias", "proj_out.weight")
    return {
        "input_size": None,
        "patch_size": patch,
        "in_channels": channels,
        "hidden_size": width,
        "depth": depth,
        "num_heads": heads_of(depth, width, num_heads),
        "mlp_ratio": ratio_of(hidden, width),
        "learn_sigma": learns_sigma(shapes, patch * patch * channels, *names),
        "skip": any(name.startswith(("skip_norms.", "skip_linears.")) for name in shapes),
        "text_width": shape_of(shapes, TEXT_KERNEL, 2)[1],
        "size_condition": any(name.startswith(SIZES) for name in shapes),
    }


def claims(config: Mapping[str, Any]) -> Claims:
    """Returns how many blocks a config asks for, and the size of its table of positions."""
    size, patch = config["input_size"], config["patch_size"]
    height, width = (size, size) if isinstance(size, int) else size
    tokens = (height // patch) * (width // patch)
    return Claims(config["depth"], {"pos_embed": (1, tokens, config["hidden_size"])})


def described(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of `PixArtConfig` that a config.json states beyond names and shapes."""
    if stated.get("_class_name") not in CLASSES:
        return {}
    fields = {
        "num_heads": stated.get("num_attention_heads"),
        "input_size": stated.get("sample_size"),
        "sample_size": stated.get("sample_size"),
    }
    found = {name: value for name, value in fields.items() if type(value) is int}
    scale = stated.get("interpolation_scale")
    return found | ({"interpolation_scale": scale} if isinstance(scale, int | float) else {})


LAYOUT = WeightLayout(
    name="pixart",
    label="PixArt",
    sign=r"adaln_single\.linear\..*",
    fields_of_shapes=fields_of_shapes,
    rules=rules,
    dialects=(pixart_original.DIALECT,),
    described=described,
    claims=claims,
)
