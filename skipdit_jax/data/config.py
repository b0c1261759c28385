"""Which examples a run is trained on, and how they are read."""

from dataclasses import dataclass

from skipdit_jax.data.shown import ORIENTATIONS
from skipdit_jax.published import LATENT_SCALE

LATENTS = "latents"
CAPTIONED = "captioned"
"""Pictures or videos with captions, see `captions`: for encoding, training takes embeddings."""
CAPTIONED_DIGITS = "captioned_digits"
"""Digits with the embeddings of captions, see `captioned_digits`."""
NAMES = ("digits", "moving_digits", CAPTIONED_DIGITS, "folder", "videos", LATENTS, CAPTIONED)
EMBEDDED = (LATENTS, CAPTIONED_DIGITS)
"""Those that a model of text trains on."""
WITHOUT_FILES = (LATENTS, "digits", "moving_digits", CAPTIONED_DIGITS)
"""Those that hold no encoded pictures or videos."""
EARLIER = {"orientation": "stored"}
"""What versions did that did not know a field yet."""
LEAST = {
    "workers": 0,
    "threads": 1,
    "ahead": 1,
    "image_size": 1,
    "num_frames": 1,
    "frame_stride": 1,
    "use_image_num": 0,
    "num_digits": 1,
}
"""The least value of fields that are numbers."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The `data` part of a configuration.

    Attributes:
      name: "digits" (in memory), "moving_digits" (made as they are read: new motion in split
        "train", the same every time in "test"), "captioned_digits" (the same with captions, and
        still ones for a model of pictures; `path` has their embeddings), "folder" (one folder of
        pictures for each class), "videos" (see `videos`), "latents" (pre-encoded, see
        `latent_files`), or any set prepared by TFDS as array_record, of features "image" or "video"
        and "label".
      split: of digits and of TFDS sets; a folder is one split.
      path: the folder, or a list of videos, or the data_dir of TFDS ("": its default).
      image_size: pixels of a side; None: what the model takes.
      num_frames: frames of a clip; None: what the model takes.
      frame_stride: of a clip; each frame is so many after the one before.
      use_image_num: independent images behind the frames of a clip, for joint training.
      num_digits: of moving_digits: 1, or 2 of a class.
      shuffle: a new order in every epoch; False: the stored one.
      orientation: of pictures and videos, "upright" as their files ask (EXIF, display matrix, pixel
        aspect) or "stored" as the pixels lie, which is how ADM prepared ImageNet.
      flip: mirror left and right at random, all frames of a clip alike.
      skip_broken: put the next example in the place of one that cannot be read, and count it; a
        video that is too short too.
      latent_scale: factor of latents.
      workers: processes that read and decode; 0: this one.
      threads: reading threads of each process.
      ahead: batches that each process keeps ready.
    """

    name: str
    split: str = "train"
    path: str = ""
    image_size: int | None = None
    num_frames: int | None = None
    frame_stride: int = 1
    use_image_num: int = 0
    num_digits: int = 1
    outward: bool = False
    shuffle: bool = True
    orientation: str = "upright"
    flip: bool = False
    skip_broken: bool = False
    latent_scale: float | int = LATENT_SCALE
    workers: int = 0
    threads: int = 1
    ahead: int = 2

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError(f"data.name: found '', wanted one of {NAMES} or a TFDS set")
        if self.name in ("folder", "videos", CAPTIONED, *EMBEDDED) and not self.path:
            raise ValueError(f"data.path: found '', wanted that of data.name {self.name!r}")
        for field, least in LEAST.items():
            value = getattr(self, field)
            if value is not None and value < least:
                raise ValueError(f"data.{field}: found {value}, wanted {least} or more")
        if self.orientation not in ORIENTATIONS:
            raise ValueError(
                f"data.orientation: found {self.orientation!r}, wanted one of {ORIENTATIONS}"
            )
        if not self.latent_scale > 0:
            raise ValueError(f"data.latent_scale: found {self.latent_scale}, wanted more than 0")
        if self.name == "latents" and self.flip:
            raise ValueError(
                "data.flip: found True, wanted False: mirrored latents decode differently"
            )
        if self.name == "latents" and self.image_size is not None:
            raise ValueError(f"data.image_size: found {self.image_size}, wanted None for latents")
