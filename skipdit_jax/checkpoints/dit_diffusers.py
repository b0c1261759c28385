"""DiT in the names of diffusers (`DiTTransformer2DModel`).

The weights are those of the original DiT, and are computed with as such: 128 frequencies of t with
denominator 128, norms of eps 1e-6. The class of diffusers has denominator 127 and one eps of 1e-5,
with which the published weights were not trained (docs/notes.md, DiT in the names of diffusers).
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from skipdit_jax.checkpoints.dialects import (
    COPIES,
    COPY,
    PARTS,
    Dialect,
    Line,
    depth_before_gap,
)

BLOCK = r"transformer_blocks\.([0-9]+)\."
CLASSES = ("DiTTransformer2DModel", "Transformer2DModel")
"""What the config.json of its weights calls it; older ones have the general name."""

_BLOCKS = {
    "attn.proj": "attn1.to_out.0",
    "mlp.fc1": "ff.net.0.proj",
    "mlp.fc2": "ff.net.2",
    "adaLN_modulation.1": "norm1.linear",
}
_EMBEDDERS = {
    "t_embedder.mlp.0": "timestep_embedder.linear_1",
    "t_embedder.mlp.2": "timestep_embedder.linear_2",
}
_ENDS = {
    "x_embedder.proj": "pos_embed.proj",
    "final_layer.adaLN_modulation.1": "proj_out_1",
    "final_layer.linear": "proj_out_2",
}


def table(depth: int) -> tuple[Line, ...]:
    """Returns every tensor of a DiT of so many blocks; the embedders stand in every block."""
    return tuple(_lines(depth))


def _lines(depth: int) -> Iterator[Line]:
    blocks = [f"transformer_blocks.{i}" for i in range(depth)]

    def everywhere(own: str, theirs: str) -> Line:
        return Line(own, tuple(f"{block}.norm1.emb.{theirs}" for block in blocks), COPIES)

    for kind in ("weight", "bias"):
        for own, theirs in _ENDS.items():
            yield Line(f"{own}.{kind}", (f"{theirs}.{kind}",), COPY)
        for own, theirs in _EMBEDDERS.items():
            yield everywhere(f"{own}.{kind}", f"{theirs}.{kind}")
    yield everywhere("y_embedder.embedding_table.weight", "class_embedder.embedding_table.weight")
    for i, block in enumerate(blocks):
        for kind in ("weight", "bias"):
            qkv = tuple(f"{block}.attn1.to_{part}.{kind}" for part in "qkv")
            yield Line(f"blocks.{i}.attn.qkv.{kind}", qkv, PARTS)
            for own, theirs in _BLOCKS.items():
                yield Line(f"blocks.{i}.{own}.{kind}", (f"{block}.{theirs}.{kind}",), COPY)


def measure(names: Iterable[str]) -> int:
    """Returns how many blocks there are before the first gap."""
    return depth_before_gap(names, BLOCK)


def described(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of `DiTConfig` that a config.json states beyond names and shapes."""
    fields = {
        "num_heads": stated.get("num_attention_heads"),
        "input_size": stated.get("sample_size"),
    }
    whole = {name: value for name, value in fields.items() if type(value) is int}
    return whole if stated.get("_class_name") in CLASSES else {}


DIALECT = Dialect(
    name="diffusers",
    sign=r"transformer_blocks\.[0-9]+\.norm1\.emb\.timestep_embedder\..*",
    measure=measure,
    size=lambda config: config["depth"],
    table=table,
    untold=("pos_embed",),
)
