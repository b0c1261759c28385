"""Which examples a run is trained on, and how they are read."""

from dataclasses import dataclass

# Latents of the autoencoders of Stable Diffusion have about unit variance after this factor: the
# scaling_factor in the configuration of the published VAE, also used by DiT.
LATENT_SCALE = 0.18215


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The `data` part of a configuration.

    Attributes:
      name: "digits" (in memory), "folder" (one folder of pictures for each class), "latents"
        (pre-encoded, see `latent_files`), or any set prepared by TFDS as array_record.
      split: of digits and of TFDS sets; a folder is one split.
      path: the folder, or the data_dir of TFDS ("": its default).
      image_size: pixels of a side; None: what the model takes.
      shuffle: a new order in every epoch; False: the stored one.
      flip: mirror left and right at random.
      skip_broken: put the next example in the place of one that cannot be read, and count it.
      latent_scale: factor of latents.
      workers: processes that read and decode; 0: this one.
      threads: reading threads of each process.
      ahead: batches that each process keeps ready.
    """

    name: str
    split: str = "train"
    path: str = ""
    image_size: int | None = None
    shuffle: bool = True
    flip: bool = False
    skip_broken: bool = False
    latent_scale: float | int = LATENT_SCALE
    workers: int = 0
    threads: int = 1
    ahead: int = 2

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("data.name: got '', want 'digits', 'folder', 'latents' or a TFDS set")
        if self.name in ("folder", "latents") and not self.path:
            raise ValueError(f"data.path: got '', want the folder of data.name {self.name!r}")
        for field, least in (("workers", 0), ("threads", 1), ("ahead", 1), ("image_size", 1)):
            value = getattr(self, field)
            if value is not None and value < least:
                raise ValueError(f"data.{field}: got {value}, want {least} or more")
        if not self.latent_scale > 0:
            raise ValueError(f"data.latent_scale: got {self.latent_scale}, want more than 0")
        if self.name == "latents" and self.flip:
            raise ValueError("data.flip: got True, want False: mirrored latents decode differently")
        if self.name == "latents" and self.image_size is not None:
            raise ValueError(f"data.image_size: got {self.image_size}, want None for latents")
