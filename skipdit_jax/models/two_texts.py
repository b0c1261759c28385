"""A prompt encoded by BERT and by T5 as a condition, with the size and style of a picture."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from skipdit_jax.models.text_conditions import (
    SIZE,
    TEXT,
    TextCondition,
    TextConditioning,
    text_of,
    wanted,
)
from skipdit_jax.typing import PRNGKey

TEXT_T5 = "text_t5"
SIZE_NUMBERS = 6
ORIGINAL_SIDE = 1024
"""Of the picture that a sample should look to be cut from, as published."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TwoTexts:
    """What HunYuan-DiT is conditioned on.

    Attributes:
      bert: hidden states of BERT with their mask.
      t5: those of mT5.
      size: height and width of the original picture, width and height of this one, and where it was
        cut from it, [B,6] in pixels; None of models that know no sizes.
      style: int [B]; None of models that know none.
    """

    bert: TextCondition
    t5: TextCondition
    size: Any = None
    style: Any = None

    def __len__(self) -> int:
        """B."""
        return len(self.bert)


@dataclasses.dataclass(frozen=True)
class TwoTextsConditioning:
    """Embeddings of both encoders for each sample, each of its own fixed number of tokens.

    Attributes:
      bert: of the first.
      t5: of the second.
      pixels: (height, width) of a sample, of models that are told sizes; None of others.
      styled: whether the model knows styles, of which 0 is the only one.
    """

    bert: TextConditioning
    t5: TextConditioning
    pixels: tuple[int, int] | None = None
    styled: bool = False

    @property
    def has_null(self) -> bool:
        """Always: a negative prompt is a text like others."""
        return True

    def prepare(self, given: Any, rows: int) -> TwoTexts:
        """Returns a condition; sizes and styles that are missing are those of the samples, and 0.

        Raises:
          ValueError: no `TwoTexts`, or what does not go with the model.
        """
        if not isinstance(given, TwoTexts):
            raise ValueError(
                f"text: found {type(given).__name__}, wanted TwoTexts of both encoders"
            )
        return TwoTexts(
            self._text("text of BERT", self.bert, given.bert, rows),
            self._text("text of T5", self.t5, given.t5, rows),
            self._sizes(given.size, rows),
            self._styles(given.style, rows),
        )

    def _text(self, name: str, kind: TextConditioning, given: Any, rows: int) -> TextCondition:
        made = kind.prepare(given, rows)
        if made.text.shape[1] != kind.tokens:
            raise ValueError(f"{name}: found {made.text.shape[1]} tokens, wanted {kind.tokens}")
        return made

    def _sizes(self, given: Any, rows: int) -> Any:
        if self.pixels is None:
            if given is not None:
                raise ValueError("size: the model knows no sizes, wanted none")
            return None
        height, width = self.pixels
        own = np.asarray([ORIGINAL_SIDE, ORIGINAL_SIDE, width, height, 0, 0], np.float32)
        sizes = np.tile(own, (rows, 1)) if given is None else given
        if np.shape(sizes) != (rows, SIZE_NUMBERS):
            raise ValueError(f"size: found {np.shape(sizes)}, wanted {(rows, SIZE_NUMBERS)}")
        return jnp.asarray(sizes, jnp.float32)

    def _styles(self, given: Any, rows: int) -> Any:
        if not self.styled:
            if given is not None:
                raise ValueError("style: the model knows no styles, wanted none")
            return None
        styles = np.zeros(rows, np.int32) if given is None else given
        if np.shape(styles) != (rows,):
            raise ValueError(f"style: found shape {np.shape(styles)}, wanted {(rows,)}")
        return jnp.asarray(styles, jnp.int32)

    def null(self, condition: TwoTexts) -> TwoTexts:
        """The negative texts, or zeros, for every row; size and style stay."""
        bert, t5 = self.bert.null(condition.bert), self.t5.null(condition.t5)
        return dataclasses.replace(condition, bert=bert, t5=t5)

    def of_batch(self, batch: Mapping[str, Any]) -> TwoTexts:
        """The texts of a batch {"text", "text_t5"}, with their masks, "size" and "style" if it has.

        Raises:
          ValueError: it lacks one of them.
        """
        wanted(batch, TEXT, TEXT_T5)
        bert, t5 = text_of(batch, TEXT), text_of(batch, TEXT_T5)
        sizes = self._sizes(batch.get(SIZE), len(bert))
        return TwoTexts(bert, t5, sizes, self._styles(batch.get("style"), len(bert)))

    def drop(self, key: PRNGKey, condition: TwoTexts) -> TwoTexts:
        """Some rows without their texts, each row without both."""
        bert, t5 = self.bert.drop(key, condition.bert), self.t5.drop(key, condition.t5)
        return dataclasses.replace(condition, bert=bert, t5=t5)

    def examples(self, rows: int) -> TwoTexts:
        """Shapes and types of so many rows."""
        sizes = jax.ShapeDtypeStruct((rows, SIZE_NUMBERS), jnp.float32)
        styles = jax.ShapeDtypeStruct((rows,), jnp.int32)
        return TwoTexts(
            self.bert.examples(rows),
            self.t5.examples(rows),
            None if self.pixels is None else sizes,
            styles if self.styled else None,
        )
