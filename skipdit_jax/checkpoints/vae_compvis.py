"""AutoencoderKL in the names of its first authors (CompVis, latent diffusion)."""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from skipdit_jax.checkpoints.dialects import COPY, POINTWISE, Dialect, Line

LEVEL = re.compile(r"encoder\.down\.([0-9]+)\.block\.([0-9]+)\.")
_RESNET = ("norm1", "conv1", "norm2", "conv2")
_ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}

Size = tuple[int, int]
"""(levels, blocks of a level of the encoder)."""


def table(size: Size) -> tuple[Line, ...]:
    """Returns every tensor of an autoencoder of that size; the decoder counts levels upwards."""
    return tuple(
        Line(f"{own}.{kind}", (f"{theirs}.{kind}",), how)
        for own, theirs, how in _modules(*size)
        for kind in ("weight", "bias")
    )


def measure(names: Iterable[str]) -> Size:
    """Returns the size that names show, up to the first gaps."""
    found = {(int(match[1]), int(match[2])) for name in names if (match := LEVEL.match(name))}
    levels = next(n for n in itertools.count() if (n, 0) not in found)
    return levels, next(n for n in itertools.count() if (0, n) not in found)


def _modules(levels: int, layers: int) -> Iterator[tuple[str, str, str]]:
    """(our name, theirs, how) of everything that has a weight and a bias."""
    for name in ("quant_conv", "post_quant_conv"):
        yield name, name, COPY
    for side, way, blocks in (("encoder", "down", layers), ("decoder", "up", layers + 1)):
        for end, theirs in (("conv_in",) * 2, ("conv_norm_out", "norm_out"), ("conv_out",) * 2):
            yield f"{side}.{end}", f"{side}.{theirs}", COPY
        for i in range(levels):
            number = i if way == "down" else levels - 1 - i
            own, theirs = f"{side}.{way}_blocks.{i}", f"{side}.{way}.{number}"
            for j in range(blocks):
                yield from _resnet(f"{own}.resnets.{j}", f"{theirs}.block.{j}")
            yield f"{own}.{way}samplers.0.conv", f"{theirs}.{way}sample.conv", COPY
        for j in range(2):  # with the attention between them
            yield from _resnet(f"{side}.mid_block.resnets.{j}", f"{side}.mid.block_{j + 1}")
        own, theirs = f"{side}.mid_block.attentions.0", f"{side}.mid.attn_1"
        yield f"{own}.group_norm", f"{theirs}.norm", COPY
        for part, name in _ATTENTION.items():
            yield f"{own}.{name}", f"{theirs}.{part}", POINTWISE


def _resnet(own: str, theirs: str) -> Iterator[tuple[str, str, str]]:
    for part in _RESNET:
        yield f"{own}.{part}", f"{theirs}.{part}", COPY
    yield f"{own}.conv_shortcut", f"{theirs}.nin_shortcut", COPY


def size(config: Mapping[str, Any]) -> Size:
    """Returns the size that a config has."""
    return len(config["block_out_channels"]), config["layers_per_block"]


DIALECT = Dialect(
    name="compvis",
    sign=r"decoder\.mid\.block_1\.conv1\.weight",
    measure=measure,
    size=size,
    table=table,
    beside=r"(?:loss|model_ema)\..*",  # of its training
)
