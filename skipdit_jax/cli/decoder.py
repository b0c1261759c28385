"""From the latents that a run draws to pictures: which autoencoder, and batches of one size."""

from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float

from skipdit_jax import sharding
from skipdit_jax.checkpoints import Checkpoint, CheckpointError
from skipdit_jax.checkpoints.errors import shown
from skipdit_jax.checkpoints.pipelines import VAE, open_pipeline
from skipdit_jax.checkpoints.released import RELEASED, VAE_SOURCES, recognised
from skipdit_jax.cli.distributed import say
from skipdit_jax.cli.options import SampleOptions
from skipdit_jax.cli.outputs import ARRAYS
from skipdit_jax.contracts import Backbone
from skipdit_jax.encoders.pixels import OVERLAP, DecodeOptions, decode_latents
from skipdit_jax.encoders.vae import AutoencoderKL
from skipdit_jax.registry.samples import makes_clips
from skipdit_jax.typing import Params
from skipdit_jax.weights import fetch_vae, load_vae
from skipdit_jax.weights.recipe import Recipe
from skipdit_jax.weights.run_folders import is_of_run

NO_VAE = "none"
CPU_SLICE = 1  # more at a time is slower on two cores (docs/weights.md)
CPU_LATENTS = 32 * 32  # of such a slice, a picture of 256x256 pixels: smaller ones go together
DEVICE_SLICE = 16


def choose_vae(
    options: SampleOptions, recipe: Recipe, checkpoint: Checkpoint | None, pixels: bool
) -> str | None:
    """Returns the autoencoder to use as --vae names it: typed, else the checkpoint's own.

    Args:
      options: what was typed.
      recipe: what the checkpoint recommends.
      checkpoint: opened, or None.
      pixels: whether the model draws pictures by itself.

    Raises:
      ValueError: flags of an autoencoder where none is used.
    """
    typed = "" if options.vae in (None, NO_VAE) else options.vae
    reason = _undecoded(options, pixels)
    if reason and typed:
        raise ValueError(f"--vae {typed}: {reason}, wanted no --vae")
    known = ""
    if not reason and options.vae != NO_VAE:
        known = recipe.vae or _of_pipeline(options) or _released_with(checkpoint)
    if known and not typed:
        _check_trusted(known, options, checkpoint)
    chosen = typed or known
    if not chosen and (options.vae_slice, options.vae_tile) != (None, None):
        raise ValueError("--vae-slice and --vae-tile: nothing is decoded, see --vae")
    return chosen or None


def _check_trusted(name: str, options: SampleOptions, checkpoint: Checkpoint | None) -> None:
    """Raises ValueError where a file that anybody may have made chooses what is opened or fetched.

    Of a run folder, which is one's own, it may be any path or address.
    """
    pipelines = {row.pipeline for row in RELEASED if row.pipeline}
    released = {*VAE_SOURCES, *VAE_SOURCES.values(), *pipelines, options.ckpt}
    if name in released or (options.ckpt and is_of_run(Path(options.ckpt))):
        return
    place = checkpoint.path if checkpoint else options.model
    raise CheckpointError(
        f"{place}: its metadata asks for the autoencoder {shown(name)!r}, which only a run folder "
        f"may choose: give --vae yourself, or --vae none for latents"
    )


def _undecoded(options: SampleOptions, pixels: bool) -> str:
    """Why nothing is to be decoded."""
    if pixels:
        return "the model draws pixels"
    latents = options.num_fid_samples is None and options.out.suffix.lower() == ARRAYS
    return f"--out {options.out} holds latents" if latents else ""


def _of_pipeline(options: SampleOptions) -> str:
    """The folder of --ckpt itself where it has an autoencoder too."""
    pipeline = open_pipeline(options.ckpt) if options.ckpt else None
    return options.ckpt or "" if pipeline and VAE in pipeline.classes else ""


def _released_with(checkpoint: Checkpoint | None) -> str:
    row = None if checkpoint is None else recognised(checkpoint)
    if row is None or row.sampling is None:
        return ""
    return row.sampling.vae or row.pipeline


def open_decoder(
    name: str, options: SampleOptions, model: Backbone, latent_scale: float | None = None
) -> "Decoder":
    """Reads an autoencoder, fetching it if it is elsewhere.

    Args:
      name: of `choose_vae`.
      options: what was typed.
      model: whose latents it is to decode.
      latent_scale: what they were multiplied by in training; None is what the autoencoder says.

    Raises:
      CheckpointError: it cannot be had or read, or does not fit the model.
    """
    try:
        path = fetch_vae(name, say, makes_clips(model))
    except CheckpointError as error:
        if options.vae is not None:
            raise
        raise CheckpointError(f"{error}; or give --vae FILE, or --vae none for latents") from error
    scale = {} if latent_scale is None else {"scaling_factor": latent_scale}
    vae, params = load_vae(path, model, dtype=options.dtype, **scale)
    *_, height, width, _ = model.sample_shape
    at_once = options.vae_slice
    if at_once is None and jax.default_backend() == "cpu" and not vae.config.CLIPS:
        at_once = max(CPU_SLICE, CPU_LATENTS // (height * width))
    return Decoder(vae, params, path, at_once, options.vae_tile)


class Decoder:
    """An autoencoder with its weights, on the devices of this process.

    Attributes:
      vae: the autoencoder.
      path: file of its weights.
      params: its parameters, on every device.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        params: Params,
        path: Path,
        slice_: int | None = None,
        tile: int | None = None,
    ):
        overlap = OVERLAP if tile is None else min(OVERLAP, tile // 2)
        self.vae, self.path, self._mesh = vae, path, sharding.local_mesh()
        self.params = jax.device_put(params, sharding.replicated(self._mesh))
        self._options = DecodeOptions(tile=tile, overlap=overlap)
        each = slice_ or (CPU_SLICE if jax.default_backend() == "cpu" else DEVICE_SLICE)
        self._rows = each * self._mesh.size

    @property
    def settings(self) -> str:
        """What its pictures depend on, weights apart."""
        config, tile = self.vae.config, self._options.tile
        return (
            f"{config.FAMILY} {config.dtype}, times {config.scaling_factor}, tile {tile}, "
            f"{self._rows} rows at a time"
        )

    def shape(self, latents: tuple[int, ...]) -> tuple[int, ...]:
        """The shape [(F,)H,W,3] of what one sample [(F,)h,w,c] becomes."""
        *frames, height, width, _ = latents
        config = self.vae.config
        return (*frames, height * config.factor, width * config.factor, config.out_channels)

    def __call__(
        self, latents: Float[np.ndarray, "n *grid c"]
    ) -> Float[np.ndarray, "n *grid2 colours"]:
        """Decodes scaled latents to float32 pixels in [-1, 1]; what goes beyond is clipped.

        Rows are decoded so many at a time, the last ones filled up, so that one program serves
        any larger number of them.
        """
        frames = not self.vae.config.CLIPS and latents.ndim == 5
        rows = latents.reshape(-1, *latents.shape[2:]) if frames else latents
        count, devices = len(rows), self._mesh.size
        at_once = min(self._rows, -(-count // devices) * devices)
        padded = np.concatenate([rows, rows[-1:].repeat(-count % at_once, axis=0)])
        parts = [
            decode_latents(
                self.vae,
                self.params,
                jax.device_put(part, sharding.batch_sharding(self._mesh)),
                self._options,
            )
            for part in padded.reshape(-1, at_once, *rows.shape[1:])
        ]
        pixels = np.concatenate([np.asarray(part) for part in parts])[:count]
        pixels = np.clip(pixels, -1, 1)
        return pixels.reshape(*latents.shape[:2], *pixels.shape[1:]) if frames else pixels
