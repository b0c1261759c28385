"""HunYuan-DiT in the names of its authors' files.

qkv and kv are one tensor each; the norms of cross-attention and MLP have each other's number; the
final layer's modulation holds the shift first.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from skipdit_jax.checkpoints.dialects import COPY, HALVES, Dialect, Line, depth_before_gap, parts_of

EXTRA = "time_extra_emb"
STYLES = "style_embedder.weight"

_WHOLE = {
    "text_embedding_padding": "text_embedding_padding",
    f"{EXTRA}.pooler.positional_embedding": "pooler.positional_embedding",
}
_ENDS = {
    "pos_embed.proj": "x_embedder.proj",
    f"{EXTRA}.timestep_embedder.linear_1": "t_embedder.mlp.0",
    f"{EXTRA}.timestep_embedder.linear_2": "t_embedder.mlp.2",
    f"{EXTRA}.extra_embedder.linear_1": "extra_embedder.0",
    f"{EXTRA}.extra_embedder.linear_2": "extra_embedder.2",
    "text_embedder.linear_1": "mlp_t5.0",
    "text_embedder.linear_2": "mlp_t5.2",
    **{f"{EXTRA}.pooler.{part}_proj": f"pooler.{part}_proj" for part in "qkvc"},
    "proj_out": "final_layer.linear",
}
_BLOCKS = {
    "norm1.norm": "norm1",
    "norm2": "norm3",
    "norm3": "norm2",
    "norm1.linear": "default_modulation.1",
    "attn2.to_q": "attn2.q_proj",
    "ff.net.0.proj": "mlp.fc1",
    "ff.net.2": "mlp.fc2",
    **{
        f"{attention}.{own}": f"{attention}.{theirs}"
        for attention in ("attn1", "attn2")
        for own, theirs in (("norm_q", "q_norm"), ("norm_k", "k_norm"), ("to_out.0", "out_proj"))
    },
}
_SKIPS = ("skip_norm", "skip_linear")
_JOINED = {
    "attn1.Wqkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "attn2.kv_proj": ("attn2.to_k", "attn2.to_v"),
}


class Size(NamedTuple):
    """What the table depends on.

    Attributes:
      depth: number of blocks.
      skips: whether late blocks take the outputs of early ones.
      styles: whether the network knows styles.
    """

    depth: int
    skips: bool
    styles: bool


def table(size: Size) -> tuple[Line, ...]:
    """Returns every tensor of a HunYuan-DiT of that size."""
    return tuple(_lines(size))


def _lines(size: Size) -> Iterator[Line]:
    styles = {f"{EXTRA}.{STYLES}": STYLES} if size.styles else {}
    for own, theirs in {**_WHOLE, **styles}.items():
        yield Line(own, (theirs,), COPY)
    for kind in ("weight", "bias"):
        for own, theirs in _ENDS.items():
            yield Line(f"{own}.{kind}", (f"{theirs}.{kind}",), COPY)
        theirs = f"final_layer.adaLN_modulation.1.{kind}"
        yield Line(f"norm_out.linear.{kind}", (theirs,), HALVES)
    for i in range(size.depth):
        skips = _SKIPS if size.skips and i > size.depth // 2 else ()
        for kind in ("weight", "bias"):
            for own, theirs in {**_BLOCKS, **{name: name for name in skips}}.items():
                yield Line(f"blocks.{i}.{own}.{kind}", (f"blocks.{i}.{theirs}.{kind}",), COPY)
            for theirs, parts in _JOINED.items():
                owns = (f"blocks.{i}.{own}.{kind}" for own in parts)
                yield from parts_of(f"blocks.{i}.{theirs}.{kind}", owns)


def measure(names: Iterable[str]) -> Size:
    """Returns the size of the network that has these names."""
    listed = list(names)
    skips = any(".skip_linear." in name for name in listed)
    return Size(depth_before_gap(listed, r"blocks\.([0-9]+)\."), skips, STYLES in listed)


def size_of(config: Mapping[str, Any]) -> Size:
    """Returns the same of the fields of a config."""
    return Size(config["depth"], config["skip"], config["style_condition"])


DIALECT = Dialect(
    name="original",
    sign=r"blocks\.[0-9]+\.attn1\.Wqkv\..*",
    measure=measure,
    size=size_of,
    table=table,
)
