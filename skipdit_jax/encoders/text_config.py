"""What the configs of text encoders share."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from skipdit_jax.config import hold


@dataclass(frozen=True, kw_only=True)
class TextEncoderConfig:
    """Everything that fixes an encoder's function, apart from its weights.

    Attributes:
      vocab_size: pieces that it has vectors of.
      hidden_size: D, the width of the embeddings that it makes.
      depth: number of blocks.
      num_heads: attention heads.
      mlp_width: between the linears of an MLP.
      dtype: compute type, "float32" or "bfloat16". Norms, softmax and what goes from block to block
        stay float32.
      param_dtype: type of the stored weights.
    """

    FAMILY: ClassVar[str] = "text encoder"  # what errors call it
    DTYPES: ClassVar[tuple[str, ...]] = ("float32", "bfloat16")
    POSITIVE: ClassVar[tuple[str, ...]] = (
        "vocab_size",
        "hidden_size",
        "depth",
        "num_heads",
        "mlp_width",
    )

    vocab_size: int
    hidden_size: int
    depth: int
    num_heads: int
    mlp_width: int
    dtype: str = "float32"
    param_dtype: str = "float32"

    def __post_init__(self):
        """Raises ValueError, naming the field, for values that describe no encoder."""
        hold(self.FAMILY, self.checks())

    def checks(self) -> list[tuple[bool, str]]:
        """(what must hold, what to say otherwise)."""
        numbers = {name: getattr(self, name) for name in self.POSITIVE}
        types = {name: getattr(self, name) for name in ("dtype", "param_dtype")}
        return [
            *(
                (found >= 1, f"{name} is {found}, wanted 1 or more")
                for name, found in numbers.items()
            ),
            *(
                (found in self.DTYPES, f"{name} is {found!r}, wanted one of {self.DTYPES}")
                for name, found in types.items()
            ),
        ]

    @property
    def types(self) -> dict[str, Any]:
        """Compute and storage types, as layers take them."""
        return {"dtype": jnp.dtype(self.dtype), "param_dtype": jnp.dtype(self.param_dtype)}
