"""Which family a state dict belongs to: told by its names, never by the file's name."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from skipdit_jax.checkpoints import rules_dit, rules_latte, rules_vae
from skipdit_jax.checkpoints.errors import CheckpointError, shown
from skipdit_jax.checkpoints.rules import Rule
from skipdit_jax.trees import Shape

NAMES_SHOWN = 3  # of an unknown state dict


def as_it_is(table: tuple[Rule, ...], shapes: Mapping[str, Shape]) -> tuple[Rule, ...]:
    """Returns the table of a family of which all state dicts have the same names."""
    return table


@dataclasses.dataclass(frozen=True)
class Family:
    """What is needed to read and write the checkpoints of one family.

    Attributes:
      name: as native files record it.
      label: as messages call it.
      fields_of_shapes: ({torch name: shape}, num_heads) -> fields of the family's config.
      rules: config fields -> weight table.
      fixed_tables: config fields -> tensors of the state dict that are computed, not trained.
      growing: those of them [1, n, D] that a file may hold more rows of than the model uses, with
        the field of the config that counts the rows.
      respell: (weight table, {torch name: shape}) -> the table as that state dict spells it.
    """

    name: str
    label: str
    fields_of_shapes: Callable[[Mapping[str, Shape], int | None], dict[str, Any]]
    rules: Callable[[Mapping[str, Any]], tuple[Rule, ...]]
    fixed_tables: Callable[[Mapping[str, Any]], dict[str, np.ndarray]]
    growing: Mapping[str, str] = dataclasses.field(default_factory=dict)
    respell: Callable[[tuple[Rule, ...], Mapping[str, Shape]], tuple[Rule, ...]] = as_it_is


DIT = Family(
    "dit",
    "DiT, Skip-DiT",
    rules_dit.fields_of_shapes,
    rules_dit.rules,
    rules_dit.fixed_tables,
)
LATTE = Family(
    "latte",
    "Latte, Latte-skip",
    rules_latte.fields_of_shapes,
    rules_latte.rules,
    rules_latte.fixed_tables,
    rules_latte.GROWING,
)
VAE = Family(
    "vae",
    "AutoencoderKL",
    rules_vae.fields_of_shapes,
    rules_vae.rules,
    rules_vae.fixed_tables,
    respell=rules_vae.respell,
)
VAE_TEMPORAL = dataclasses.replace(VAE, name="vae_temporal", label="AutoencoderKLTemporalDecoder")
FAMILIES = {family.name: family for family in (DIT, LATTE, VAE, VAE_TEMPORAL)}
"""The families that this version reads, by name."""

SIGNS: tuple[tuple[str, str, str], ...] = (
    ("latte_t2v", "LatteT2V", r"temporal_transformer_blocks\.[0-9]+\..*"),
    ("hunyuan_dit", "HunYuan-DiT", r"text_embedding_padding|blocks\.[0-9]+\.attn1\.Wqkv\..*"),
    ("latte", "Latte", rules_latte.SIGN),
    ("dit", "DiT", rules_dit.SIGN),
    ("vae_temporal", "temporal VAE", rules_vae.TEMPORAL_SIGN),
    ("vae", "VAE", rules_vae.SIGN),
    ("t5", "T5 text encoder", r"encoder\.block\.[0-9]+\.layer\.0\.SelfAttention\..*"),
    ("bert", "BERT text encoder", r"embeddings\.word_embeddings\.weight"),
)
"""(family, what to call it, a torch name only it has); the first that occurs decides."""


def recognise(names: Iterable[str]) -> Family:
    """Returns the family whose state dict has these torch names.

    Raises:
      CheckpointError: another family, or none that is known.
    """
    found = list(names)
    for family, label, sign in SIGNS:
        if any(re.fullmatch(sign, name) for name in found):
            return named(family, label)
    some = ", ".join(shown(name) for name in found[:NAMES_SHOWN])
    raise CheckpointError(f"is of no known family (it has {some}); {_readable()}")


def named(name: str, label: str | None = None) -> Family:
    """Returns the family of that name.

    Raises:
      CheckpointError: this version does not read it.
    """
    if name not in FAMILIES:
        raise CheckpointError(f"is a {label or shown(name)} checkpoint; {_readable()}")
    return FAMILIES[name]


def _readable() -> str:
    return f"this version reads {', '.join(family.label for family in FAMILIES.values())}"
