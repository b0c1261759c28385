"""Moving digits as a TFDS set `skipdit_moving_digits`, prepared and read without TensorFlow.

Importing this module registers the builder. Examples are the fixed videos of `load_moving_digits`,
in its order: a set of 16 frames read as clips of 16 equals what that function returns.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from skipdit_jax.data.digits import NUM_CLASSES, SPLITS
from skipdit_jax.data.moving_digits import CANVAS, load_moving_digits


@dataclass
class MovingDigitsConfig(tfds.core.BuilderConfig):
    """One form of the set.

    Attributes:
      num_digits: 1, or 2 of a class.
      num_frames: of a stored video; clips may be shorter.
      seed: of the motion.
    """

    num_digits: int = 1
    num_frames: int = 16
    seed: int = 0


class SkipditMovingDigits(tfds.core.GeneratorBasedBuilder):
    """Drifting handwritten digits, float32 [T,32,32,1] in [-1, 1], with labels 0..9."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[MovingDigitsConfig]] = [
        MovingDigitsConfig(name="one", num_digits=1),
        MovingDigitsConfig(name="two", num_digits=2),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        shape = (self.builder_config.num_frames, CANVAS, CANVAS, 1)
        video = tfds.features.Tensor(shape=shape, dtype=np.float32, encoding="bytes")
        label = tfds.features.ClassLabel(num_classes=NUM_CLASSES)
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict({"video": video, "label": label}),
            supervised_keys=("video", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager  # The digits come with scikit-learn.
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        config = self.builder_config
        moving = load_moving_digits(
            split, config.num_frames, num_digits=config.num_digits, seed=config.seed
        )
        for index, (video, label) in enumerate(zip(moving.videos, moving.labels, strict=True)):
            yield index, {"video": video, "label": int(label)}


def prepare_moving_digits(data_dir: str | Path, config: str | MovingDigitsConfig = "one") -> None:
    """Writes the set below `data_dir` as array_record, unless it is there already."""
    builder = SkipditMovingDigits(data_dir=str(data_dir), config=config, file_format="array_record")
    builder.download_and_prepare()
