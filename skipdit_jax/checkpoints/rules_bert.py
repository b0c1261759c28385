"""The encoder of BERT: the weight table, and the config that a file shows."""

from collections.abc import Mapping
from typing import Any

from skipdit_jax.checkpoints.errors import CheckpointError, shown
from skipdit_jax.checkpoints.layouts import Claims, WeightLayout
from skipdit_jax.checkpoints.rules import Rule, linear
from skipdit_jax.checkpoints.rules_dit import Config, Shapes, depth_of, heads_of, shape_of

WORDS = "embeddings.word_embeddings.weight"
BLOCK = r"encoder\.layer\.([0-9]+)\."
LAYER = "encoder.layer.{i}"
MODEL_TYPE = "bert"  # in a config.json


def rules(config: Mapping[str, Any]) -> tuple[Rule, ...]:
    """Returns the weight table; one table serves all sizes."""
    attention = {"self.query": "q", "self.key": "k", "self.value": "v", "output.dense": "proj"}
    return (
        Rule(WORDS, "tokens/embedding"),
        Rule("embeddings.position_embeddings.weight", "positions/embedding"),
        Rule("embeddings.token_type_embeddings.weight", "kinds/embedding"),
        *_norm("embeddings.LayerNorm", "norm"),
        *(
            rule
            for name, part in attention.items()
            for rule in linear(f"{LAYER}.attention.{name}", f"blocks_{{i}}/attn/{part}")
        ),
        *_norm(f"{LAYER}.attention.output.LayerNorm", "blocks_{i}/attn_norm"),
        *linear(f"{LAYER}.intermediate.dense", "blocks_{i}/mlp/fc1"),
        *linear(f"{LAYER}.output.dense", "blocks_{i}/mlp/fc2"),
        *_norm(f"{LAYER}.output.LayerNorm", "blocks_{i}/mlp_norm"),
    )


def _norm(torch: str, ours: str) -> tuple[Rule, ...]:
    return (Rule(f"{torch}.weight", f"{ours}/scale"), Rule(f"{torch}.bias", f"{ours}/bias"))


def fields_of_shapes(shapes: Shapes, num_heads: int | None = None) -> Config:
    """Returns the fields of `BertConfig` that the names and shapes of a state dict show.

    Args:
      shapes: {torch name: shape}.
      num_heads: needed unless (depth, width) is one of the published sizes.

    Raises:
      CheckpointError: a name that tells a size is missing or has an impossible shape, or the number
        of heads is unknown.
    """
    vocabulary, width = shape_of(shapes, WORDS, 2)
    depth = depth_of(shapes, BLOCK)
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "depth": depth,
        "num_heads": heads_of(depth, width, num_heads),
        "mlp_width": shape_of(shapes, f"{LAYER.format(i=0)}.intermediate.dense.weight", 2)[0],
        "max_positions": shape_of(shapes, "embeddings.position_embeddings.weight", 2)[0],
        "num_types": shape_of(shapes, "embeddings.token_type_embeddings.weight", 2)[0],
    }


def claims(config: Mapping[str, Any]) -> Claims:
    """Returns how many blocks a config asks for."""
    return Claims(config["depth"])


def described(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of `BertConfig` that a config.json states and no weights tell.

    Raises:
      CheckpointError: another activation, or places told in another way.
    """
    if stated.get("model_type") != MODEL_TYPE:
        return {}
    for name, wanted in (("hidden_act", "gelu"), ("position_embedding_type", "absolute")):
        if stated.get(name, wanted) != wanted:
            raise CheckpointError(
                f"its config.json has {name} {shown(repr(stated[name]))}, wanted {wanted}"
            )
    heads, epsilon = stated.get("num_attention_heads"), stated.get("layer_norm_eps")
    fields = {"num_heads": heads} if type(heads) is int else {}
    return fields | ({"norm_epsilon": epsilon} if isinstance(epsilon, float) else {})


LAYOUT = WeightLayout(
    name="bert",
    label="BERT text encoder",
    sign=r"embeddings\.word_embeddings\.weight",
    fields_of_shapes=fields_of_shapes,
    rules=rules,
    beside=r"embeddings\.position_ids|pooler\..*|cls\..*",  # of older files, and of other tasks
    described=described,
    claims=claims,
)
