"""HunYuan-DiT: the weight table in the names of diffusers, and the config that a file shows.

The released files of its authors are a dialect, `hunyuan_original`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from skipdit_jax.checkpoints import hunyuan_original
from skipdit_jax.checkpoints.errors import CheckpointError
from skipdit_jax.checkpoints.layouts import WeightLayout
from skipdit_jax.checkpoints.rules import Rule, Transform, linear, patch_convolution
from skipdit_jax.checkpoints.rules_dit import (
    Config,
    Shapes,
    depth_of,
    learns_sigma,
    ratio_of,
    shape_of,
)
from skipdit_jax.checkpoints.rules_pixart import attention_rules, claims
from skipdit_jax.layers.embedders import NUM_FREQUENCIES
from skipdit_jax.published import HUNYUAN_MIDDLE_BLOCKS

EXTRA = "time_extra_emb"
PADDING = "text_embedding_padding"
PLACES = f"{EXTRA}.pooler.positional_embedding"
STYLES = f"{EXTRA}.style_embedder.weight"
CLASS = "HunyuanDiT2DModel"
SIZE_WAVES = 6 * 2 * NUM_FREQUENCIES


def _swapped(array: np.ndarray) -> np.ndarray:
    """[scale; shift] <-> [shift; scale] along the first axis."""
    return np.concatenate(np.split(array, 2)[::-1])


SWAPPED = Transform(_swapped, _swapped)
SWAPPED_LINEAR = Transform(lambda a: _swapped(a).T, lambda a: _swapped(a.T))


def rules(config: Mapping[str, Any]) -> tuple[Rule, ...]:
    """Returns the weight table; skips are numbered by the block that they enter."""
    block = "blocks.{i}", "blocks_{i}"
    skips = range(max((config["depth"] - HUNYUAN_MIDDLE_BLOCKS) // 2, 0))
    first = config["depth"] - len(skips)
    return (
        Rule("pos_embed.proj.weight", "x_embedder/kernel", patch_convolution(config["patch_size"])),
        Rule("pos_embed.proj.bias", "x_embedder/bias"),
        *_two_linears(f"{EXTRA}.timestep_embedder", "t_embedder"),
        *_two_linears(f"{EXTRA}.extra_embedder", "extra_embedder"),
        Rule(STYLES, "style_embedder/embedding"),
        Rule(PLACES, "pooler/positions"),
        *(r for p in "qkv" for r in linear(f"{EXTRA}.pooler.{p}_proj", f"pooler/{p}")),
        *linear(f"{EXTRA}.pooler.c_proj", "pooler/proj"),
        *_two_linears("text_embedder", "t5_projection"),
        Rule(PADDING, "text_padding"),
        *_block_rules(*block),
        *(rule for j in skips for rule in _skip_rules(f"blocks.{first + j}", f"skip_fusions_{j}")),
        Rule("norm_out.linear.weight", "final_layer/modulation/kernel", SWAPPED_LINEAR),
        Rule("norm_out.linear.bias", "final_layer/modulation/bias", SWAPPED),
        *linear("proj_out", "final_layer/linear"),
    )


def _two_linears(torch: str, ours: str) -> tuple[Rule, ...]:
    return (
        *linear(f"{torch}.linear_1", f"{ours}/fc1"),
        *linear(f"{torch}.linear_2", f"{ours}/fc2"),
    )


def _norm(torch: str, ours: str) -> tuple[Rule, Rule]:
    return Rule(f"{torch}.weight", f"{ours}/scale"), Rule(f"{torch}.bias", f"{ours}/bias")


def _block_rules(torch: str, ours: str) -> tuple[Rule, ...]:
    norms = {"norm1.norm": "norm", "norm2": "cross_norm", "norm3": "mlp_norm"}
    attentions = {"attn1": "attn", "attn2": "cross_attn"}
    return (
        *linear(f"{torch}.norm1.linear", f"{ours}/modulation"),
        *(
            rule
            for name, own in norms.items()
            for rule in _norm(f"{torch}.{name}", f"{ours}/{own}")
        ),
        *(
            rule
            for name, own in attentions.items()
            for rule in (
                *attention_rules(f"{torch}.{name}", f"{ours}/{own}"),
                *_norm(f"{torch}.{name}.norm_q", f"{ours}/{own}/q_norm"),
                *_norm(f"{torch}.{name}.norm_k", f"{ours}/{own}/k_norm"),
            )
        ),
        *linear(f"{torch}.ff.net.0.proj", f"{ours}/mlp/fc1"),
        *linear(f"{torch}.ff.net.2", f"{ours}/mlp/fc2"),
    )


def _skip_rules(torch: str, ours: str) -> tuple[Rule, ...]:
    return (
        *_norm(f"{torch}.skip_norm", f"{ours}/norm"),
        *linear(f"{torch}.skip_linear", f"{ours}/linear"),
    )


def fields_of_shapes(shapes: Shapes, num_heads: int | None = None) -> Config:
    """Returns the fields of `HunYuanDiTConfig` that the names and shapes of a state dict show.

    `input_size` is None: nothing shows it, and the weights serve all sizes.

    Args:
      shapes: {torch name: shape}.
      num_heads: not needed: the norms of queries show it.

    Raises:
      CheckpointError: a name that tells a size is missing or has an impossible shape.
    """
    width, channels, patch, _ = shape_of(shapes, "pos_embed.proj.weight", 4)
    (head,) = shape_of(shapes, "blocks.0.attn1.norm_q.weight", 1)
    (hidden,) = shape_of(shapes, "blocks.0.ff.net.0.proj.bias", 1)
    tokens, text_width = shape_of(shapes, PADDING, 2)
    places, t5_width = shape_of(shapes, PLACES, 2)
    pooled, _ = shape_of(shapes, f"{EXTRA}.pooler.c_proj.weight", 2)
    told = shape_of(shapes, f"{EXTRA}.extra_embedder.linear_1.weight", 2)[1]
    styles = width if STYLES in shapes else 0
    if told - styles - pooled not in (0, SIZE_WAVES):
        raise CheckpointError(
            f"{EXTRA}.extra_embedder takes {told} numbers, wanted {pooled + styles} or "
            f"{pooled + styles + SIZE_WAVES}"
        )
    return {
        "input_size": None,
        "patch_size": patch,
        "in_channels": channels,
        "hidden_size": width,
        "depth": depth_of(shapes),
        "num_heads": num_heads or max(width // head, 1),
        "mlp_ratio": ratio_of(hidden, width),
        "learn_sigma": learns_sigma(
            shapes, patch * patch * channels, "proj_out.bias", "proj_out.weight"
        ),
        "skip": any(".skip_linear." in name for name in shapes),
        "text_width": text_width,
        "text_tokens": tokens - places + 1,
        "t5_width": t5_width,
        "t5_tokens": places - 1,
        "pooled_width": pooled,
        "size_condition": told - styles > pooled,
        "style_condition": styles > 0,
    }


def described(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of the config that a config.json states beyond names and shapes."""
    side = stated.get("sample_size")
    known = stated.get("_class_name") == CLASS and type(side) is int
    return {"input_size": side} if known else {}


LAYOUT = WeightLayout(
    name="hunyuan_dit",
    label="HunYuan-DiT",
    sign=r"time_extra_emb\..*",
    fields_of_shapes=fields_of_shapes,
    rules=rules,
    dialects=(hunyuan_original.DIALECT,),
    described=described,
    claims=claims,
)
