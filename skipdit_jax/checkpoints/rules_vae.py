"""Autoencoders in the layout of diffusers: the weight table and the config that names show.

One table serves pictures and clips. It has the attention names of today; `respell` gives those of
older files, which also may hold its linears as 1x1 convolutions.
"""

import dataclasses
import itertools
import re
from collections.abc import Mapping
from typing import Any

from skipdit_jax.checkpoints import vae_compvis
from skipdit_jax.checkpoints.errors import CheckpointError
from skipdit_jax.checkpoints.layouts import Claims, WeightLayout
from skipdit_jax.checkpoints.rules import CONVOLUTION, IDENTITY, LINEAR, Rule, Transform, linear
from skipdit_jax.checkpoints.rules_dit import Config, Shapes, shape_of

POINTWISE = Transform(
    lambda kernel: kernel.reshape(kernel.shape[:2]).T,
    lambda kernel: kernel.T[:, :, None, None],
)
"""torch (out, in, 1, 1) <-> ours [in, out]."""

OLDER = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
"""Names of an attention's linears -> what older files call them."""

_ATTENTION = re.compile(
    r"(?P<place>.*\.attentions\.0)\.(?P<part>to_[qkv]|to_out\.0)\.(?P<kind>\w+)"
)
_CONVOLUTION_RANK = 4
QUANT = ("quant_conv", "post_quant_conv")  # 1x1 convolutions that newer autoencoders lack
CLASSES = ("AutoencoderKL", "AutoencoderKLTemporalDecoder")  # in a config.json


def rules(config: Mapping[str, Any]) -> tuple[Rule, ...]:
    """Returns the weight table; it is the same for all sizes."""
    sides = (("encoder", "down"), ("decoder", "up"))
    return tuple(
        itertools.chain.from_iterable(
            (
                *(_half(side, way) for side, way in sides),
                *(_convolution(name, name) for name in QUANT),
                _convolution("decoder.time_conv_out", "decoder/time_conv_out"),
            )
        )
    )


def claims(config: Mapping[str, Any]) -> Claims:
    """Returns how many blocks the encoder of a config has; the decoder has more."""
    return Claims(len(config["block_out_channels"]) * config["layers_per_block"])


def fields_of_shapes(shapes: Shapes, num_heads: int | None = None) -> Config:
    """Returns the fields of `AutoencoderKLConfig` that the names and shapes of a state dict show.

    Groups of norms and the scaling factor are not among them.

    Args:
      shapes: {torch name: shape}.
      num_heads: of no use here: attention has one head.

    Raises:
      CheckpointError: a name that tells a size is missing or has an impossible shape.
    """
    first = "encoder.down_blocks.0.resnets.0.conv1.weight"
    widths = [shape_of(shapes, first, 4)[0]]
    for i in itertools.count(1):
        name = f"encoder.down_blocks.{i}.resnets.0.conv1.weight"
        if name not in shapes:
            break
        widths.append(shape_of(shapes, name, 4)[0])
    layers = next(
        j
        for j in itertools.count(1)
        if f"encoder.down_blocks.0.resnets.{j}.conv1.weight" not in shapes
    )
    return {
        "block_out_channels": tuple(widths),
        "layers_per_block": layers,
        "in_channels": shape_of(shapes, "encoder.conv_in.weight", 4)[1],
        "out_channels": shape_of(shapes, "decoder.conv_out.weight", 4)[0],
        "latent_channels": shape_of(shapes, "decoder.conv_in.weight", 4)[1],
        **{f"use_{name}": any(n.startswith(f"{name}.") for n in shapes) for name in QUANT},
    }


def described(stated: Mapping[str, Any]) -> Config:
    """Returns the fields of the config that a config.json states and no weights tell.

    Raises:
      CheckpointError: latents with an offset, which this version does not take off.
    """
    if stated.get("_class_name") not in CLASSES:
        return {}
    if stated.get("shift_factor"):
        raise CheckpointError(
            f"its config.json has shift_factor {stated['shift_factor']}, wanted 0"
        )
    kinds = {"scaling_factor": int | float, "norm_num_groups": int}
    return {
        name: stated[name] for name, kind in kinds.items() if isinstance(stated.get(name), kind)
    }


def respell(table: tuple[Rule, ...], shapes: Shapes) -> tuple[Rule, ...]:
    """Returns the weight table with the attention names and ranks that a state dict uses.

    Args:
      table: of `rules`.
      shapes: {torch name: shape} of the state dict.
    """
    return tuple(_respelled(rule, shapes) for rule in table)


def _respelled(rule: Rule, shapes: Shapes) -> Rule:
    match = _ATTENTION.fullmatch(rule.torch)
    if not match:
        return rule
    name, place = rule.torch, match["place"]
    if any(f"{place}.{part}.weight" in shapes for part in OLDER.values()):
        name = f"{place}.{OLDER[match['part']]}.{match['kind']}"
    transform = rule.transform
    if transform is LINEAR and len(shapes.get(name, ())) == _CONVOLUTION_RANK:
        transform = POINTWISE
    return dataclasses.replace(rule, torch=name, transform=transform)


def _half(side: str, way: str) -> tuple[Rule, ...]:
    """The rules of the encoder (down) or the decoder (up)."""
    level, ours = f"{side}.{way}_blocks.{{i}}", f"{side}/{way}_blocks_{{i}}"
    middle = f"{side}.mid_block.attentions.0", f"{side}/mid/attention"
    parts = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "out"}
    return (
        *_convolution(f"{side}.conv_in", f"{side}/conv_in"),
        *_blocks(f"{level}.resnets.{{j}}", f"{ours}/resnets_{{j}}"),
        *_convolution(f"{level}.{way}samplers.0.conv", f"{ours}/{way}sample"),
        *_blocks(f"{side}.mid_block.resnets.{{j}}", f"{side}/mid/resnets_{{j}}"),
        *_norm(f"{middle[0]}.group_norm", f"{middle[1]}/norm"),
        *itertools.chain.from_iterable(
            linear(f"{middle[0]}.{torch}", f"{middle[1]}/{name}") for torch, name in parts.items()
        ),
        *_norm(f"{side}.conv_norm_out", f"{side}/norm_out"),
        *_convolution(f"{side}.conv_out", f"{side}/conv_out"),
    )


def _blocks(torch: str, ours: str) -> tuple[Rule, ...]:
    """The rules of a block of either decoder."""
    return (
        *_resnet(torch, ours),
        *_resnet(f"{torch}.spatial_res_block", f"{ours}/spatial"),
        *_resnet(f"{torch}.temporal_res_block", f"{ours}/temporal"),
        Rule(f"{torch}.time_mixer.mix_factor", f"{ours}/mix_factor", IDENTITY),
    )


def _resnet(torch: str, ours: str) -> tuple[Rule, ...]:
    return (
        *_norm(f"{torch}.norm1", f"{ours}/norm1"),
        *_convolution(f"{torch}.conv1", f"{ours}/conv1"),
        *_norm(f"{torch}.norm2", f"{ours}/norm2"),
        *_convolution(f"{torch}.conv2", f"{ours}/conv2"),
        *_convolution(f"{torch}.conv_shortcut", f"{ours}/shortcut"),
    )


def _convolution(torch: str, ours: str) -> tuple[Rule, ...]:
    return (
        Rule(f"{torch}.weight", f"{ours}/kernel", CONVOLUTION),
        Rule(f"{torch}.bias", f"{ours}/bias"),
    )


def _norm(torch: str, ours: str) -> tuple[Rule, ...]:
    return (Rule(f"{torch}.weight", f"{ours}/scale"), Rule(f"{torch}.bias", f"{ours}/bias"))


LAYOUT = WeightLayout(
    name="vae",
    label="AutoencoderKL",
    sign=r"decoder\.conv_in\.weight",
    fields_of_shapes=fields_of_shapes,
    rules=rules,
    respell=respell,
    dialects=(vae_compvis.DIALECT,),
    described=described,
    claims=claims,
)
TEMPORAL_LAYOUT = dataclasses.replace(
    LAYOUT,
    name="vae_temporal",
    label="AutoencoderKLTemporalDecoder",
    sign=r"decoder\.time_conv_out\.weight",
    dialects=(),
)
