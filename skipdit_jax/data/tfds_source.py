"""Any set prepared by TensorFlow Datasets as array_record, read without TensorFlow."""

from typing import Any

from skipdit_jax.data.images import read_image
from skipdit_jax.data.sources import Example, Source

FILE_FORMAT = "array_record"


class TfdsSource:
    """Examples {"image", "label"} of a prepared set with features of these names.

    Encoded pictures are decoded and cut like those of a folder; an image feature that is a plain
    tensor is passed on as it is.
    """

    def __init__(self, records: Any, *, name: str, encoded: bool, size: int, channels: int):
        self._records, self._name, self._encoded = records, name, encoded
        self._size, self._channels = size, channels

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Example:
        stored = self._records[index]
        image = stored["image"]
        if self._encoded:
            name = f"{self._name}[{index}]"
            image = read_image(image, name=name, size=self._size, channels=self._channels)
        return {"image": image, "label": stored["label"]}


def open_tfds(
    name: str, split: str, data_dir: str, *, size: int, channels: int, num_classes: int
) -> Source:
    """Opens a prepared set from its files; the code that prepared it is not needed.

    Args:
      name: as in `tfds.load`, with configuration and version if wanted ("name/config:1.0.0").
      split: as in `tfds.load`, parts like "train[:75%]" too.
      data_dir: where it was prepared; "" is the default place of TFDS.
      size: H and W of encoded pictures.
      channels: C of encoded pictures.
      num_classes: labels must be below it.

    Raises:
      ValueError: TFDS is missing, the set is not prepared as array_record, has no such split, or
        lacks the features.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ValueError(
            f"data.name {name!r} needs TFDS: pip install tensorflow-datasets"
        ) from error
    try:
        builder = tfds.core.read_only_builder.builder_from_files(name, data_dir=data_dir or None)
    except tfds.core.registered.DatasetNotFoundError as error:
        raise ValueError(
            f"data.name: no prepared set {name!r} in {data_dir or 'the data_dir of TFDS'}"
        ) from error
    found = builder.info.file_format.value
    if found != FILE_FORMAT:
        raise ValueError(
            f"data.name: {name!r} is prepared as {found}, want file_format={FILE_FORMAT!r}"
        )
    encoded = _check_features(builder.info.features, tfds, name, num_classes)
    decoders = {"image": tfds.decode.SkipDecoding()} if encoded else None
    try:
        records = builder.as_data_source(split, decoders=decoders)
    except (ValueError, KeyError) as error:
        wanted = sorted(builder.info.splits)
        raise ValueError(f"data.split: {name!r} has no {split!r}, want one of {wanted}") from error
    return TfdsSource(
        records, name=f"{name}/{split}", encoded=encoded, size=size, channels=channels
    )


def _check_features(features: Any, tfds: Any, name: str, num_classes: int) -> bool:
    """Returns whether the images are encoded pictures."""
    lacking = {"image", "label"} - set(features)
    if lacking:
        raise ValueError(f"data.name: {name!r} has features {sorted(features)}, want image, label")
    classes = getattr(features["label"], "num_classes", None)
    if classes is not None and classes > num_classes:
        raise ValueError(
            f"data.name: {name!r} has {classes} classes, "
            f"want labels 0..{num_classes - 1} (num_classes)"
        )
    return isinstance(features["image"], tfds.features.Image)
