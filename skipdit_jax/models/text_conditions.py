"""Text as a condition: embeddings that an encoder made, and what goes with them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from skipdit_jax.typing import PRNGKey

TEXT, MASK, SIZE = "text", "text_mask", "size"
"""Keys of a training batch."""
NULL = "null_"
"""What the keys of a dropped caption begin with: its text [L,E] and mask [L]."""

SIZE_NUMBERS = 3  # height and width in pixels, height / width


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TextCondition:
    """What a model of text is conditioned on. A sampler doubles it leaf by leaf for guidance.

    Attributes:
      text: the encoder's last hidden states, [B,L,E]. In joint training [B,1+n,L,E]: of the clip,
        then of each of the n images behind it.
      mask: which tokens are seen, 0 or 1, [B,L] or [B,1+n,L]; None: all.
      size: height and width in pixels and their ratio, [B,3]; None of models that know no sizes.
      null_text: what stands in for the text where there is none (the embeddings of a negative
        prompt), of the shape of `text`; None: zeros.
      null_mask: its mask; given together with `mask`.
    """

    text: Any
    mask: Any = None
    size: Any = None
    null_text: Any = None
    null_mask: Any = None

    def __len__(self) -> int:
        """B."""
        return len(self.text)


@dataclasses.dataclass(frozen=True)
class TextConditioning:
    """Embeddings of a prompt for each sample.

    Attributes:
      tokens: L of examples; a call takes any.
      width: E of the encoder.
      dropout: share of texts that training replaces by the null.
      pixels: (height, width) of a sample, of models that are told sizes; None of others.
    """

    tokens: int
    width: int
    dropout: float = 0.0
    pixels: tuple[int, int] | None = None

    @property
    def has_null(self) -> bool:
        """Always: an empty or negative prompt is a text like others."""
        return True

    def prepare(self, given: Any, rows: int) -> TextCondition:
        """Returns a condition of float32 embeddings; masks and sizes that are missing are added.

        Args:
          given: a `TextCondition`, or the embeddings alone; sizes may be [B,2] without ratios.
          rows: B.

        Raises:
          ValueError: embeddings of another width or number, or what does not go with them.
        """
        wanted = f"wanted embeddings ({rows}, tokens, {self.width})"
        if given is None or isinstance(given, str | Mapping):
            raise ValueError(f"text: found {given!r:.60}, {wanted}")
        condition = given if isinstance(given, TextCondition) else TextCondition(given)
        shape = np.shape(condition.text)
        if len(shape) != 3 or shape[::2] != (rows, self.width) or not shape[1]:
            raise ValueError(f"text: found shape {shape}, {wanted}")
        mask, null_mask = condition.mask, condition.null_mask
        if (mask is None) != (null_mask is None):
            ones = np.ones(shape[:2], np.float32)
            mask, null_mask = (ones if m is None else m for m in (mask, null_mask))
        return TextCondition(
            jnp.asarray(condition.text, jnp.float32),
            _shaped("text mask", mask, shape[:2]),
            self._sizes(condition.size, rows),
            _shaped("negative text", condition.null_text, shape),
            _shaped("mask of the negative text", null_mask, shape[:2]),
        )

    def _sizes(self, given: Any, rows: int) -> Array | None:
        """Of each sample, [B,3]: as given, else those that the model makes."""
        if self.pixels is None:
            if given is not None:
                raise ValueError("size: the model knows no sizes, wanted none")
            return None
        if given is None:
            given = np.tile(np.asarray(self.pixels, np.float32), (rows, 1))
        sizes = jnp.asarray(given, jnp.float32)
        if sizes.shape == (rows, SIZE_NUMBERS - 1):
            sizes = jnp.concatenate([sizes, sizes[:, :1] / sizes[:, 1:]], axis=1)
        return _shaped("size", sizes, (rows, SIZE_NUMBERS))

    def null(self, condition: TextCondition) -> TextCondition:
        """The negative text, or zeros, for every row; sizes stay."""
        return self._replaced(jnp.ones(len(condition), bool), condition)

    def of_batch(self, batch: Mapping[str, Any]) -> TextCondition:
        """The texts of a batch {"text" [B,L,E]}, with "text_mask" and "size" where it has them.

        What stands in for a dropped one is "null_text" [L,E] with "null_text_mask" [L]: without the
        first zeros, without the second the mask of the dropped text.

        Raises:
          ValueError: it has no texts.
        """
        wanted(batch, TEXT)
        condition = text_of(batch, TEXT)
        sizes = self._sizes(batch.get(SIZE), len(condition))
        return dataclasses.replace(condition, size=sizes)

    def drop(self, key: PRNGKey, condition: TextCondition) -> TextCondition:
        """Some rows without their texts: a clip loses its own and those of its images together."""
        if self.dropout:
            chosen = jax.random.uniform(key, (len(condition),), jnp.float32) < self.dropout
            condition = self._replaced(chosen, condition)
        elif condition.null_text is None:
            return condition
        return dataclasses.replace(condition, null_text=None, null_mask=None)

    def _replaced(self, chosen: Bool[Array, "B"], condition: TextCondition) -> TextCondition:
        """The null where it is chosen; the structure and the shapes stay."""

        def replaced(own: Array | None, null: Array | None, default: float) -> Array | None:
            if own is None:
                return None
            rows = chosen.reshape(-1, *(1,) * (own.ndim - 1))
            return jnp.where(rows, jnp.full_like(own, default) if null is None else null, own)

        return dataclasses.replace(
            condition,
            text=replaced(condition.text, condition.null_text, 0.0),
            mask=replaced(condition.mask, condition.null_mask, 1.0),
        )

    def examples(self, rows: int) -> TextCondition:
        """Shapes and types of so many rows, all of whose tokens are seen."""
        text = jax.ShapeDtypeStruct((rows, self.tokens, self.width), jnp.float32)
        sizes = jax.ShapeDtypeStruct((rows, SIZE_NUMBERS), jnp.float32)
        return TextCondition(text, size=None if self.pixels is None else sizes)


def text_of(batch: Mapping[str, Any], name: str) -> TextCondition:
    """The embeddings of one encoder in a batch, with what stands in for those that are dropped."""
    text, mask = batch[name], batch.get(f"{name}_mask")
    null, null_mask = batch.get(f"{NULL}{name}"), batch.get(f"{NULL}{name}_mask")
    if null is None:
        return TextCondition(text, mask)
    null = jnp.broadcast_to(null, text.shape)
    if mask is not None:
        null_mask = mask if null_mask is None else jnp.broadcast_to(null_mask, mask.shape)
    return TextCondition(text, mask, None, null, null_mask)


def wanted(batch: Mapping[str, Any], *names: str) -> None:
    """Raises ValueError if a batch lacks one of these embeddings."""
    for name in names:
        if name not in batch:
            raise ValueError(f"batch: found {', '.join(batch)}, wanted {name} (embeddings) too")


def _shaped(name: str, given: Any, shape: tuple[int, ...]) -> Array | None:
    """Float32 of that shape, or None if nothing was given; raises ValueError for another shape."""
    if given is None:
        return None
    if np.shape(given) != shape:
        raise ValueError(f"{name}: found shape {np.shape(given)}, wanted {shape}")
    return jnp.asarray(given, jnp.float32)
