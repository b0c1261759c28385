"""Any set prepared by TensorFlow Datasets as array_record, read without TensorFlow."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skipdit_jax.data.clips import Window
from skipdit_jax.data.fingerprints import fingerprint, middle, spread
from skipdit_jax.data.images import read_image
from skipdit_jax.data.sources import Example
from skipdit_jax.optional import load

FILE_FORMAT = "array_record"


@dataclass(frozen=True, kw_only=True)
class TfdsSource:
    """Examples {"image", "label"} of a prepared set, or clips {"image" [F,H,W,C], "label"}.

    Encoded pictures, and encoded frames of a video, are decoded and cut like those of a folder; a
    feature that is a plain tensor is passed on as it is.

    Attributes:
      records: the data source of TFDS.
      name: of the set, for errors.
      feature: "image" or "video".
      encoded: whether it holds encoded pictures.
      size: (H, W) of pictures once decoded.
      channels: C of them.
      orientation: of pictures, see `images.read_image`.
      classes: their names, where the set tells them.
      fingerprint: tells the set from others of its size.
    """

    records: Any
    name: str
    feature: str
    encoded: bool
    size: tuple[int, int]
    channels: int
    orientation: str
    classes: tuple[str, ...]
    fingerprint: str = ""

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Example:
        stored = self.records[index]
        image = stored[self.feature]
        if self.encoded:
            image = self._decode(image, f"{self.name}[{index}]")
        return {"image": image, "label": stored["label"]}

    def draw(self, index: int, window: Window, rng: np.random.Generator) -> Example:
        """See `ClipSource`."""
        stored = self.records[index]
        name, frames = f"{self.name}[{index}]", stored[self.feature]
        chosen = window.choose(len(frames), rng.random(), name)
        if self.encoded:
            clip = np.stack([self._decode(frames[n], f"{name} frame {n}") for n in chosen])
        else:
            clip = frames[chosen]
        return {"image": clip, "label": stored["label"]}

    def _decode(self, picture: bytes, name: str) -> np.ndarray:
        return read_image(
            picture,
            name=name,
            size=self.size,
            channels=self.channels,
            orientation=self.orientation,
        )


class KeepEncoded:
    """A decoder of TFDS that decodes nothing; its own SkipDecoding knows no sequences in numpy."""

    def setup(self, *, feature: Any) -> None:
        """Takes the feature, which it has no use for."""

    def decode_example_np(self, stored: Any) -> Any:
        """Returns what is stored: a picture."""
        return stored

    def decode_batch_example_np(self, stored: Any) -> Any:
        """Returns what is stored: the pictures of a sequence."""
        return stored


def open_tfds(
    name: str,
    split: str,
    data_dir: str,
    *,
    feature: str,
    size: tuple[int, int],
    channels: int,
    num_classes: int,
    orientation: str = "upright",
) -> TfdsSource:
    """Opens a prepared set from its files; the code that prepared it is not needed.

    Args:
      name: as in `tfds.load`, with configuration and version if wanted ("name/config:1.0.0").
      split: as in `tfds.load`, parts like "train[:75%]" too.
      data_dir: where it was prepared; "" is the default place of TFDS.
      feature: "image", or "video" for clips.
      size: (H, W) of encoded pictures.
      channels: C of encoded pictures.
      num_classes: labels must be below it.
      orientation: of encoded pictures.

    Raises:
      ValueError: TFDS is missing, the set is not prepared as array_record, has no such split, lacks
        the features, or has some that need TensorFlow where there is none.
    """
    tfds = load("tensorflow_datasets", f"data.name {name!r}")
    try:
        builder = tfds.core.read_only_builder.builder_from_files(name, data_dir=data_dir or None)
    except tfds.core.registered.DatasetNotFoundError as error:
        raise ValueError(
            f"data.name: no prepared set {name!r} in {data_dir or 'the data_dir of TFDS'}"
        ) from error
    except ModuleNotFoundError as error:
        raise ValueError(
            f"data.name: {name!r} has features that need {error.name} (tfds.features.Video does), "
            f"which is not installed"
        ) from error
    found = builder.info.file_format.value
    if found != FILE_FORMAT:
        raise ValueError(
            f"data.name: {name!r} is prepared as {found}, wanted file_format={FILE_FORMAT!r}"
        )
    encoded = _check_features(builder.info.features, tfds, name, feature, num_classes)
    decoders = {feature: KeepEncoded()} if encoded else None
    try:
        records = builder.as_data_source(split, decoders=decoders)
        parts = builder.info.splits[split].file_instructions
    except (ValueError, KeyError) as error:
        wanted = sorted(builder.info.splits)
        raise ValueError(
            f"data.split: {name!r} has no {split!r}, wanted one of {wanted}"
        ) from error
    classes = tuple(getattr(builder.info.features["label"], "names", None) or ())
    return TfdsSource(
        records=records,
        name=f"{name}/{split}",
        feature=feature,
        encoded=encoded,
        size=size,
        channels=channels,
        orientation=orientation,
        classes=classes,
        fingerprint=_fingerprint(parts, classes),
    )


def _fingerprint(parts: Sequence[Any], classes: Sequence[str]) -> str:
    """Of the shards of a split, by name, size and a piece of some, wherever the folder lies."""
    files = [Path(part.filename) for part in parts]
    facts = [(part.skip, part.take) for part in parts]
    names = [os.fsencode(file.name) for file in files]
    pieces = [middle(file) for file in spread(files)]
    return fingerprint(files[0].parent if files else Path(), names, [*classes, *facts, *pieces])


def _check_features(features: Any, tfds: Any, name: str, feature: str, num_classes: int) -> bool:
    """Returns whether the feature is an encoded picture, or a sequence of them."""
    if {feature, "label"} - set(features):
        raise ValueError(
            f"data.name: {name!r} has features {sorted(features)}, wanted {feature}, label"
        )
    classes = getattr(features["label"], "num_classes", None)
    if classes is not None and classes > num_classes:
        raise ValueError(
            f"data.name: {name!r} has {classes} classes, "
            f"wanted labels 0..{num_classes - 1} (num_classes)"
        )
    found = features[feature]
    if isinstance(found, tfds.features.Sequence):
        found = found.feature
    return isinstance(found, tfds.features.Image)
