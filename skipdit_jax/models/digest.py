"""What models of text make of their condition alone, so that it can be made once for all steps."""

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float

from skipdit_jax.layers.attention import KeysValues


class Digest(NamedTuple):
    """A condition as the parts of a network read it; see `contracts.StagedModel.digest`.

    Attributes:
      text: projected, [B,L,E], or [B,1+n,L,E] of a clip and its n images; where it is ready for the
        cross-attention of each block, a list of `KeysValues`.
      bias: of the logits of its tokens, [B,L] or [B,1+n,L]; None: all are seen alike.
      vector: what joins that of time, float32 [B,D]; None: nothing.
    """

    text: Any
    bias: Float[Array, "B *rows L"] | None = None
    vector: Float[Array, "B D"] | None = None


@runtime_checkable
class Reader(Protocol):
    """A block that reads a text."""

    def keys_values(self, text: Array) -> KeysValues:
        """What its cross-attention makes of the text."""
        ...


def with_keys(made: Digest, blocks: Iterable[Reader]) -> Digest:
    """The digest whose text is ready for each of these blocks."""
    return made._replace(text=[block.keys_values(made.text) for block in blocks])


def of_block(c: Any, number: int) -> Any:
    """A block's own view of what all are given: its keys and values, where they are ready."""
    return c._replace(text=c.text[number]) if isinstance(c.text, list) else c
