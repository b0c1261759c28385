"""PixArt-alpha in the names of its authors' .pth files: qkv and kv are one tensor each."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from skipdit_jax.checkpoints.dialects import COPY, Dialect, Line, depth_before_gap, parts_of

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


DIALECT = Dialect(
    name="original",
    sign=r"blocks\.[0-9]+\.cross_attn\.kv_linear\..*",
    measure=measure,
    size=size_of,
    table=table,
    beside=r"pos_embed|y_embedder\.y_embedding",  # a fixed table, and the text of no prompt
)
