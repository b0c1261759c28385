"""PixArt-alpha in the names of its authors' .pth files: qkv and kv are one tensor each.

Beside the network they hold its table of positions, which shows the size of picture that it was
trained for, and the embeddings that stood for a caption which training dropped.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from skipdit_jax.checkpoints.dialects import COPY, Dialect, Line, depth_before_gap, parts_of
from skipdit_jax.checkpoints.handles import TensorHandle
from skipdit_jax.layers.positions import MAX_PERIOD, sincos_2d

PLACES, NULL_TEXT, PATCHES = "pos_embed", "y_embedder.y_embedding", "x_embedder.proj.weight"
ROUNDED = 1e-2  # a table of bfloat16 is off by at most 2^-8
SCALE_DIGITS = 1  # published scales are 0.5, 1 and 2; bfloat16 reads 1.99
SIZES = "csize_embedder."

_ENDS = {
    "pos_embed.proj": "x_embedder.proj",
    "adaln_single.emb.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "adaln_single.emb.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "adaln_single.linear": "t_block.1",
    "caption_projection.linear_1": "y_embedder.y_proj.fc1",
    "caption_projection.linear_2": "y_embedder.y_proj.fc2",
    "proj_out": "final_layer.linear",
}
_SIZES = {
    "adaln_single.emb.resolution_embedder.linear_1": "csize_embedder.mlp.0",
    "adaln_single.emb.resolution_embedder.linear_2": "csize_embedder.mlp.2",
    "adaln_single.emb.aspect_ratio_embedder.linear_1": "ar_embedder.mlp.0",
    "adaln_single.emb.aspect_ratio_embedder.linear_2": "ar_embedder.mlp.2",
}
_BLOCKS = {
    "attn1.to_out.0": "attn.proj",
    "attn2.to_q": "cross_attn.q_linear",
    "attn2.to_out.0": "cross_attn.proj",
    "ff.net.0.proj": "mlp.fc1",
    "ff.net.2": "mlp.fc2",
}
_JOINED = {
    "attn.qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "cross_attn.kv_linear": ("attn2.to_k", "attn2.to_v"),
}


class Size(NamedTuple):
    """What the table depends on.

    Attributes:
      depth: number of blocks.
      sizes: whether the network is told sizes.
    """

    depth: int
    sizes: bool


def table(size: Size) -> tuple[Line, ...]:
    """Returns every tensor of a PixArt of that size."""
    return tuple(_lines(size))


def _lines(size: Size) -> Iterator[Line]:
    yield Line("scale_shift_table", ("final_layer.scale_shift_table",), COPY)
    for kind in ("weight", "bias"):
        for own, theirs in {**_ENDS, **(_SIZES if size.sizes else {})}.items():
            yield Line(f"{own}.{kind}", (f"{theirs}.{kind}",), COPY)
    for i in range(size.depth):
        own_block, block = f"transformer_blocks.{i}", f"blocks.{i}"
        yield Line(f"{own_block}.scale_shift_table", (f"{block}.scale_shift_table",), COPY)
        for kind in ("weight", "bias"):
            for own, theirs in _BLOCKS.items():
                yield Line(f"{own_block}.{own}.{kind}", (f"{block}.{theirs}.{kind}",), COPY)
            for theirs, parts in _JOINED.items():
                owns = (f"{own_block}.{own}.{kind}" for own in parts)
                yield from parts_of(f"{block}.{theirs}.{kind}", owns)


def measure(names: Iterable[str]) -> Size:
    """Returns how many blocks there are before the first gap, and whether sizes are embedded."""
    listed = list(names)
    sizes = any(name.startswith(SIZES) for name in listed)
    return Size(depth_before_gap(listed, r"blocks\.([0-9]+)\."), sizes)


def size_of(config: Mapping[str, Any]) -> Size:
    """Returns the same of the fields of a config."""
    return Size(config["depth"], config["size_condition"])


def told(handles: Mapping[str, TensorHandle]) -> dict[str, Any]:
    """Returns what table of positions and null text show: sizes, and the number of tokens.

    A table that is none of positions over some scale shows nothing.
    """
    null, places = handles.get(NULL_TEXT), handles.get(PLACES)
    fields = {"text_tokens": null.shape[0]} if null is not None and len(null.shape) == 2 else {}
    patches = handles.get(PATCHES)
    if places is None or patches is None or len(places.shape) != 3 or len(patches.shape) != 4:
        return fields
    one, tokens, width = places.shape
    side = math.isqrt(tokens)
    flat = one != 1 or side < 2 or side**2 != tokens or width % 4
    if flat or places.dtype.kind == "c":  # of one token, or of no real numbers, nothing is measured
        return fields
    scale = _scale_of(places.read().astype(np.float32)[0], side)
    pixels = side * patches.shape[-1]
    found = {"input_size": pixels, "sample_size": pixels, "interpolation_scale": scale}
    return fields if scale is None else fields | found


def _scale_of(table: np.ndarray, side: int) -> float | None:
    """What the places of a table [N,D] were divided by, read off the slowest wave of its columns.

    None where it is no table of positions over any scale.
    """
    waves = table.shape[1] // 4
    frequency = MAX_PERIOD ** -((waves - 1) / waves)
    last = float(np.arcsin(np.clip(table[side - 1, waves - 1], -1, 1))) / frequency
    if not last > 0:
        return None
    scale = round((side - 1) / last, SCALE_DIGITS)
    if not scale:
        return None
    wanted = sincos_2d(side, side, table.shape[1], side / scale)
    return scale if np.abs(table - wanted).max() <= ROUNDED else None


DIALECT = Dialect(
    name="original",
    sign=r"blocks\.[0-9]+\.cross_attn\.kv_linear\..*",
    measure=measure,
    size=size_of,
    table=table,
    beside=r"pos_embed|y_embedder\.y_embedding",
    told=told,
    null_text=NULL_TEXT,
)
