"""From the flags of the encode tool to a job: everything checked and loaded, nothing computed."""

from pathlib import Path
from typing import Any, NamedTuple

import jax

from skipdit_jax.checkpoints.digests import digest
from skipdit_jax.cli.decoder import CPU_SLICE
from skipdit_jax.cli.distributed import say
from skipdit_jax.cli.encode_options import SAMPLE, TFDS, EncodeOptions
from skipdit_jax.cli.encode_texts import Captioner, load_captioner
from skipdit_jax.data.config import CAPTIONED, NAMES, DataConfig
from skipdit_jax.data.encoding import ShardPlan
from skipdit_jax.data.latent_files import ENCODING, KINDS, MANIFEST, Manifest
from skipdit_jax.data.loader import Reading
from skipdit_jax.data.open import open_once
from skipdit_jax.data.sources import ANY_CLASS, Source, classes_of
from skipdit_jax.encoders.vae import AutoencoderKL
from skipdit_jax.runs.claims import claim
from skipdit_jax.typing import Params
from skipdit_jax.weights import fetch_vae, load_vae

VERSION = 2
"""Of what `encoding.json` means; since 2 pictures are read as viewers show them."""
ENCODER_PARTS = ("encoder", "quant_conv")
"""Parameters that encode; autoencoders that differ in the others alone give the same latents."""

FIXED = (
    "orientation",
    "num_frames",
    "frame_stride",
    "flip",
    "kind",
    "dtype",
    "compute_dtype",
    "format",
    "shard_size",
    "batch_size",
    "seed",
)
"""Flags that fix the bytes of a folder."""


class EncodingJob(NamedTuple):
    """What to encode, and where it goes.

    Attributes:
      folder: of the latents.
      vae: the autoencoder.
      params: the part of its parameters that encodes.
      captioner: encodes captions; None without.
      source: pictures or clips.
      shape: of one of them, [H,W,C] or [F,H,W,C].
      plan: which examples each shard and batch hold.
      manifest: of the folder, without its shards.
      settings: all that fixes its bytes, as plain JSON.
      seed: of the draws of samples.
      rows: pictures or frames encoded at a time.
      reading: how pictures are read.
      skip_broken: pass over those that cannot be read.
    """

    folder: Path
    vae: AutoencoderKL
    params: Params
    captioner: Captioner | None
    source: Source
    shape: tuple[int, ...]
    plan: ShardPlan
    manifest: Manifest
    settings: dict[str, Any]
    seed: int
    rows: int
    reading: Reading
    skip_broken: bool


def prepare_encoding(options: EncodeOptions) -> EncodingJob:
    """Checks and loads everything, and claims the folder.

    Raises:
      ValueError: (or OSError) whatever the user has to mend, in one line.
    """
    assert options.vae is not None, "parse wants one"
    _check_folder(options.out)
    rows = _check_batch(options)
    vae, params = load_vae(fetch_vae(options.vae, say), dtype=options.compute_dtype)
    shape = _sample_shape(options, vae)
    source = _open_source(options, shape)
    captioner = load_captioner(options)
    plan = ShardPlan(
        pictures=len(source),
        mirrored=options.flip,
        shard_size=options.shard_size,
        batch_size=options.batch_size,
    )
    height, width = (side // vae.config.factor for side in options.image_size)
    manifest = Manifest(
        format=options.format,
        arrays=KINDS[options.kind == SAMPLE],
        shape=(*shape[:-3], height, width, vae.config.latent_channels),
        dtype=options.dtype,
        classes=classes_of(source),
        texts=captioner.shapes if captioner else {},
    )
    params = {name: params[name] for name in ENCODER_PARTS}
    settings = _settings(options, digest(params), plan, rows)
    settings["text"] = captioner.settings if captioner else None
    claim(options.out / ENCODING, settings, f"--out {options.out}", "latents")
    return EncodingJob(
        folder=options.out,
        vae=vae,
        params=params,
        captioner=captioner,
        source=source,
        shape=shape,
        plan=plan,
        manifest=manifest,
        settings=settings,
        seed=options.seed,
        rows=rows,
        reading=Reading(workers=options.workers, threads=options.threads),
        skip_broken=options.skip_broken,
    )


def name_of_source(options: EncodeOptions) -> str:
    """The source, so that it is the same from whatever folder it is named."""
    data = str(options.data)
    return f"{data}/{options.split}" if data.startswith(TFDS) else str(Path(data).resolve())


def _check_folder(folder: Path) -> None:
    """Makes sure that a folder is free or ours."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"--out {folder}: is a file, wanted a folder")
    # One look: a process beside this one may be claiming the folder.
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if names and ENCODING not in names:
        found = MANIFEST if MANIFEST in names else names[0]
        raise ValueError(
            f"--out {folder}: holds {found} and no {ENCODING}, wanted a new or empty folder, or "
            "one of this command"
        )


def _sample_shape(options: EncodeOptions, vae: AutoencoderKL) -> tuple[int, ...]:
    """Shape of the pictures or clips that are encoded."""
    size, factor = options.image_size, vae.config.factor
    for side in size:
        if side % factor:
            raise ValueError(
                f"--image-size {side}: wanted a multiple of {factor}, the pixels per latent of "
                f"--vae {options.vae}"
            )
    frames = () if options.num_frames is None else (options.num_frames,)
    return (*frames, *size, vae.config.in_channels)


def _check_batch(options: EncodeOptions) -> int:
    """Returns the pictures or frames that are encoded at a time."""
    devices = jax.local_device_count()
    if options.batch_size % devices:
        raise ValueError(
            f"--batch-size {options.batch_size}: cannot be split over the {devices} devices of a "
            f"process, wanted a multiple of {devices}"
        )
    at_once = CPU_SLICE * devices if jax.default_backend() == "cpu" else options.batch_size
    rows, all_rows = options.slice or at_once, options.batch_size * (options.num_frames or 1)
    if all_rows % rows or rows % devices:
        raise ValueError(
            f"--slice {rows}: wanted a divisor of the {all_rows} pictures or frames of a batch, "
            f"and a multiple of the {devices} devices of a process"
        )
    return rows


def _open_source(options: EncodeOptions, shape: tuple[int, ...]) -> Source:
    data = str(options.data)
    name, path = "folder" if options.num_frames is None else "videos", data
    if options.text_encoder:
        name = CAPTIONED
    if data.startswith(TFDS):
        name, path = data.removeprefix(TFDS), options.data_dir
        if not name or name in NAMES:
            raise ValueError(f"--data {data}: wanted the name of a prepared set behind {TFDS}")
    config = DataConfig(
        name=name,
        split=options.split,
        path=path,
        frame_stride=options.frame_stride,
        orientation=options.orientation,
    )
    try:
        return open_once(config, sample_shape=shape, num_classes=ANY_CLASS, seed=options.seed)
    except ValueError as error:
        reason = str(error).removeprefix("data.path: ").removeprefix("data.name: ")
        raise ValueError(f"--data {data}: {reason}") from error


def _settings(options: EncodeOptions, weights: str, plan: ShardPlan, rows: int) -> dict[str, Any]:
    """All that fixes the bytes of a folder, as plain JSON."""
    height, width = options.image_size
    return {
        "version": VERSION,
        "data": name_of_source(options),
        "examples": plan.examples,
        "vae": weights,
        "slice": rows,
        "image_size": height if height == width else [height, width],
        **{name: getattr(options, name) for name in FIXED},
    }
