"""The digits as a TFDS set of the name `skipdit_digits`, prepared and read without TensorFlow.

Importing this module registers the builder. Examples stand in the order of `load_digits`, so that
batches of the prepared set equal those of the set in memory.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from skipdit_jax.data.digits import IMAGE_SIZE, NUM_CLASSES, SPLITS, load_digits


class SkipditDigits(tfds.core.GeneratorBasedBuilder):
    """Handwritten digits, float32 [8,8,1] in [-1, 1], with labels 0..9."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}

    def _info(self) -> tfds.core.DatasetInfo:
        shape = (IMAGE_SIZE, IMAGE_SIZE, 1)
        image = tfds.features.Tensor(shape=shape, dtype=np.float32, encoding="bytes")
        label = tfds.features.ClassLabel(num_classes=NUM_CLASSES)
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict({"image": image, "label": label}),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager  # The images come with scikit-learn.
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        digits = load_digits(split)
        for index, (image, label) in enumerate(zip(digits.images, digits.labels, strict=True)):
            yield index, {"image": image, "label": int(label)}


def prepare_digits(data_dir: str | Path) -> None:
    """Writes the set below `data_dir` as array_record, unless it is there already."""
    builder = SkipditDigits(data_dir=str(data_dir), file_format="array_record")
    builder.download_and_prepare()
