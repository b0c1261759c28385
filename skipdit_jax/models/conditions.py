"""Kinds of condition: what a user may give, its null, and how training drops it.

Each implements `contracts.Conditioning`; nothing outside this file knows what a label is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from skipdit_jax.typing import Labels, PRNGKey

IMAGE_LABELS = "image_labels"
"""Key of a batch of clips that have independent images behind their frames."""


class JointLabels(NamedTuple):
    """Labels of clips that carry independent images behind their frames (joint training).

    Attributes:
      video: of the clip, int [B].
      images: of each of its n images, int [B,n].
    """

    video: Labels
    images: Int[Array, "B n"]


@dataclass(frozen=True)
class ClassConditioning:
    """A class for each sample, and one more that means "none".

    Attributes:
      num_classes: labels are 0..num_classes-1, and num_classes is the null; 0: unconditional.
      dropout: share of labels that training replaces by the null; 0: the null was never trained.
    """

    num_classes: int
    dropout: float = 0.0

    @property
    def has_null(self) -> bool:
        """Whether the label table has the extra row that guidance needs."""
        return self.num_classes > 0 and self.dropout > 0

    @property
    def rows(self) -> int:
        """Of the label table."""
        return self.num_classes + self.has_null

    @property
    def described(self) -> str:
        """How many classes, and whether they have a null, for people."""
        null = "" if self.has_null or not self.num_classes else " and no null"
        return f"{self.num_classes} classes{null}"

    def prepare(self, given: Any, rows: int) -> Labels | None:
        """Returns labels int32 [rows] of whole numbers; None of an unconditional model.

        Traced labels are checked for their shape alone.

        Raises:
          ValueError: another number of labels, or some that are no classes.
        """
        last = self.num_classes - 1
        if not self.num_classes:
            if given is not None:
                raise ValueError("labels: the model is unconditional, wanted none")
            return None
        if given is None:
            raise ValueError(f"labels: none given, wanted {rows} numbers from 0 to {last}")
        traced = any(isinstance(y, jax.core.Tracer) for y in jax.tree.leaves(given))
        labels = (jnp if traced else np).asarray(given)
        if labels.shape != (rows,) or not np.issubdtype(labels.dtype, np.integer):
            found = labels.aval if traced else labels.tolist()
            raise ValueError(f"labels: found {found}, wanted {rows} whole numbers")
        if traced:
            return labels.astype(jnp.int32)
        if outside := [int(y) for y in labels if not 0 <= y <= last]:
            raise ValueError(f"labels: {outside} outside 0..{last}")
        return jnp.asarray(labels, jnp.int32)

    def null(self, condition: Labels | None) -> Labels | None:
        """The null class for every row."""
        return None if condition is None else jnp.full_like(condition, self.num_classes)

    def of_batch(self, batch: Mapping[str, Any]) -> Labels | JointLabels | None:
        """The labels of a batch {"label" int32 [B]}, with "image_labels" [B,n] `JointLabels`."""
        if IMAGE_LABELS in batch:  # also without classes: their shape tells the number of images
            return JointLabels(batch["label"], batch[IMAGE_LABELS])
        return batch["label"] if self.num_classes else None

    def drop(
        self, key: PRNGKey, condition: Labels | JointLabels | None
    ) -> Labels | JointLabels | None:
        """Labels, some of them replaced by the null.

        The images of a clip lose their labels together, whether or not the clip loses its own.
        """
        if condition is None or not self.has_null:
            return condition
        if isinstance(condition, JointLabels):
            image_key = jax.random.fold_in(key, 1)
            video, images = condition
            return JointLabels(self._dropped(key, video), self._dropped(image_key, images))
        return self._dropped(key, condition)

    def _dropped(self, key: PRNGKey, labels: Int[Array, "B *images"]) -> Int[Array, "B *images"]:
        chosen = jax.random.uniform(key, labels.shape[:1], jnp.float32) < self.dropout
        chosen = chosen.reshape(-1, *(1,) * (labels.ndim - 1))
        return jnp.where(chosen, jnp.int32(self.num_classes), labels)

    def examples(self, rows: int) -> jax.ShapeDtypeStruct | None:
        """Shape and type of the labels of so many rows."""
        return jax.ShapeDtypeStruct((rows,), jnp.int32) if self.num_classes else None
