"""The encoder of T5 v1.1 and mT5: the weight table, and the config that a file shows.

Files may hold the table of pieces under two names, or under the second alone; and beside the
encoder a whole decoder, of which nothing is read.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from skipdit_jax.checkpoints.dialects import COPIES, COPY, Dialect, Line, depth_before_gap
from skipdit_jax.checkpoints.errors import CheckpointError, shown
from skipdit_jax.checkpoints.layouts import Claims, WeightLayout
from skipdit_jax.checkpoints.rules import LINEAR, Rule
from skipdit_jax.checkpoints.rules_dit import Config, Shapes, depth_of, shape_of

TABLE, TIED = "shared.weight", "encoder.embed_tokens.weight"
BLOCK = r"encoder\.block\.([0-9]+)\."
ATTENTION = "encoder.block.{i}.layer.0.SelfAttention"
MLP = "encoder.block.{i}.layer.1.DenseReluDense"
PLACES = f"{ATTENTION.format(i=0)}.relative_attention_bias.weight"
DECODER = r"decoder\..*|lm_head\.weight"
MODEL_TYPES = ("t5", "mt5")  # in a config.json
GATED = "gated-gelu"


def rules(config: Mapping[str, Any]) -> tuple[Rule, ...]:
    """Returns the weight table; one table serves all sizes.

    The table of pieces comes first: while it is read, nothing else is in memory yet.
    """
    return (
        Rule(TABLE, "tokens/embedding"),
        Rule(PLACES, "relative_bias"),
        Rule("encoder.block.{i}.layer.0.layer_norm.weight", "blocks_{i}/attn_norm/scale"),
        *(Rule(f"{ATTENTION}.{p}.weight", f"blocks_{{i}}/attn/{p}/kernel", LINEAR) for p in "qkvo"),
        Rule("encoder.block.{i}.layer.1.layer_norm.weight", "blocks_{i}/mlp_norm/scale"),
        *(
            Rule(f"{MLP}.{part}.weight", f"blocks_{{i}}/mlp/{part}/kernel", LINEAR)
            for part in ("wi_0", "wi_1", "wo")
        ),
        Rule("encoder.final_layer_norm.weight", "norm/scale"),
    )


def fields_of_shapes(shapes: Shapes, num_heads: int | None = None) -> Config:
    """Returns the fields of `T5Config` that the names and shapes of a state dict show.

    The largest distance and the epsilon of norms are not among them.

    Args:
      shapes: {torch name: shape}.
      num_heads: of no use here: the table of distances shows the heads.

    Raises:
      CheckpointError: a name that tells a size is missing or has an impossible shape.
    """
    vocabulary, width = shape_of(shapes, TABLE, 2)
    buckets, heads = shape_of(shapes, PLACES, 2)
    inner = shape_of(shapes, f"{ATTENTION.format(i=0)}.q.weight", 2)[0]
    if inner % heads:
        raise CheckpointError(f"{PLACES} has {heads} heads, wanted a divisor of {inner}")
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "depth": depth_of(shapes, BLOCK),
        "num_heads": heads,
        "head_dim": inner // heads,
        "mlp_width": shape_of(shapes, f"{MLP.format(i=0)}.wi_0.weight", 2)[0],
        "num_buckets": buckets,
    }


def claims(config: Mapping[str, Any]) -> Claims:
    """Returns how many blocks a config asks for."""
    return Claims(config["depth"])


def described(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of `T5Config` that a config.json states and no weights tell.

    Raises:
      CheckpointError: the MLP of another T5.
    """
    if stated.get("model_type") not in MODEL_TYPES:
        return {}
    kind = stated.get("feed_forward_proj", GATED)
    if kind != GATED:
        raise CheckpointError(
            f"its config.json has feed_forward_proj {shown(repr(kind))}, wanted {GATED}"
        )
    distance, epsilon = (
        stated.get(name) for name in ("relative_attention_max_distance", "layer_norm_epsilon")
    )
    fields = {"max_distance": distance} if type(distance) is int else {}
    return fields | ({"norm_epsilon": epsilon} if isinstance(epsilon, float) else {})


class _Names(NamedTuple):
    """What the names of a file depend on: those of the table of pieces, and the depth."""

    tables: tuple[str, ...]
    depth: int


def _names(names: Iterable[str]) -> _Names:
    found = list(names)
    tables = tuple(name for name in (TABLE, TIED) if name in found)
    return _Names(tables, depth_before_gap(found, BLOCK))


def _lines(names: _Names) -> tuple[Line, ...]:
    table = Line(TABLE, names.tables, COPIES if len(names.tables) > 1 else COPY)
    others = (rule.torch for rule in rules({})[1:])
    kept = (other.format(i=i) for other in others for i in range(names.depth))
    return (table, *(Line(name, (name,)) for name in dict.fromkeys(kept)))


LAYOUT = WeightLayout(
    name="t5",
    label="T5 text encoder",
    sign=r"encoder\.block\.[0-9]+\.layer\.0\.SelfAttention\..*",
    fields_of_shapes=fields_of_shapes,
    rules=rules,
    beside=DECODER,
    dialects=(
        Dialect(
            name="transformers",
            sign=TIED.replace(".", r"\."),
            measure=_names,
            size=lambda config: _Names((TABLE, TIED), config["depth"]),
            table=_lines,
            beside=DECODER,
        ),
    ),
    described=described,
    claims=claims,
)
