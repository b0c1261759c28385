"""From prompts to embeddings: cleaning, pieces, the encoder, in one value."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float32, Int, Int32

from skipdit_jax.encoders.prompts import Clean, stripped
from skipdit_jax.encoders.tokenizers import Tokenizer
from skipdit_jax.typing import Params

MOST_ROWS = 16  # texts of one call: at 120 pieces XXL's logits of a block are 59 MB


@dataclasses.dataclass(frozen=True, eq=False)
class TextEmbeddings:
    """What an encoder made of some prompts; on the host.

    Attributes:
      prompts: as they were given.
      text: last hidden states, also of padding, [B,L,E].
      mask: 1 for pieces of a prompt and its ends, 0 for padding, [B,L].
      cut: how many pieces of each prompt had no room.
    """

    prompts: tuple[str, ...]
    text: Float32[np.ndarray, "B L E"]
    mask: Int32[np.ndarray, "B L"]
    cut: tuple[int, ...]

    def __len__(self) -> int:
        """B."""
        return len(self.prompts)

    def __getitem__(self, rows: slice | Sequence[int]) -> "TextEmbeddings":
        """Some of the prompts, also in another order."""
        chosen = np.arange(len(self))[rows if isinstance(rows, slice) else np.asarray(rows, int)]
        return TextEmbeddings(
            tuple(self.prompts[row] for row in chosen),
            self.text[chosen],
            self.mask[chosen],
            tuple(self.cut[row] for row in chosen),
        )

    @property
    def width(self) -> int:
        """E."""
        return self.text.shape[-1]


@dataclasses.dataclass(frozen=True, eq=False)
class TextEncoder:
    """Makes embeddings of prompts; `weights.load_text_encoder` reads one.

    It holds the parameters: sampling needs them no more, so drop it, or `free` it.

    Attributes:
      network: `T5Encoder` or `BertEncoder`.
      params: its parameters.
      tokenizer: of its vocabulary.
      length: L, pieces of each row; longer prompts are cut, and `TextEmbeddings.cut` tells it.
      clean: what a prompt goes through first, see `prompts`.
    """

    network: Any
    params: Params
    tokenizer: Tokenizer
    length: int
    clean: Clean = stripped

    def __call__(self, prompts: Sequence[str]) -> TextEmbeddings:
        """Returns embeddings of as many prompts as are given.

        For one length there are five programs, of 1 to 16 rows; nothing else compiles anew.

        Raises:
          ValueError: no prompts, or one that is no text.
        """
        if isinstance(prompts, str) or not prompts:
            raise ValueError(f"prompts: found {prompts!r:.60}, wanted a list of texts")
        if strange := [prompt for prompt in prompts if not isinstance(prompt, str)]:
            raise ValueError(f"prompts: found {strange[0]!r:.60}, wanted texts")
        tokens = self.tokenizer([self.clean(prompt) for prompt in prompts], self.length)
        parts = [
            self._rows(tokens.ids[at : at + MOST_ROWS], tokens.mask[at : at + MOST_ROWS])
            for at in range(0, len(prompts), MOST_ROWS)
        ]
        return TextEmbeddings(tuple(prompts), np.concatenate(parts), tokens.mask, tokens.cut)

    def _rows(
        self, ids: Int32[np.ndarray, "B L"], mask: Int32[np.ndarray, "B L"]
    ) -> Float32[np.ndarray, "B L E"]:
        """Of the next power of two of rows, of which the last are repeated."""
        rows = len(ids)
        filled = np.minimum(np.arange(1 << (rows - 1).bit_length()), rows - 1)
        return np.array(encode(self.network, self.params, ids[filled], mask[filled])[:rows])

    def free(self) -> None:
        """Gives the memory of the parameters back at once; the encoder is of no use then."""
        for leaf in jax.tree.leaves(self.params):
            leaf.delete()


@functools.partial(jax.jit, static_argnums=0)
def encode(
    network: Any, params: Params, ids: Int[Array, "B L"], mask: Int[Array, "B L"]
) -> Float32[Array, "B L E"]:
    """One program for each network and shape."""
    return network.apply({"params": params}, ids, mask)
