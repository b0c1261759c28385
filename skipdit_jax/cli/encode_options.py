"""The flags of the encode tool: what they are called, what they mean, what may be typed."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skipdit_jax.cli.distributed import Cluster, add_flags, from_flags
from skipdit_jax.cli.errors import OneLineParser
from skipdit_jax.cli.numbers import natural, positive, seed
from skipdit_jax.data.captions import LIST_ENDING
from skipdit_jax.data.latent_files import DTYPES, FORMATS, SHARD_SIZE
from skipdit_jax.data.shown import ORIENTATIONS
from skipdit_jax.data.tar_shards import TAR
from skipdit_jax.encoders.prompts import CLEANERS
from skipdit_jax.encoders.vae import DTYPES as COMPUTE_DTYPES

PROGRAM = "python -m skipdit_jax.cli.encode"
TFDS, TRAIN = "tfds:", "train"
MOMENTS, SAMPLE = KINDS = ("moments", "sample")
IMAGE_SIZE = 256
OF_CAPTIONS = (LIST_ENDING, TAR)
SIDES = ("height", "width")
BATCH = 32
MAX_BATCH = 10**6  # examples, of whatever size: more are a slip of the finger
THREADS = 4
CAPTIONED_SHARD = 256
"""Examples of a shard with captions: 120 tokens of T5-XXL take 1 MB each in float16."""
MOST_ENCODERS = 2  # of one model: HunYuan-DiT's

DESCRIPTION = """\
Encodes pictures or clips with an autoencoder, once, into a folder of latents that train.py reads.
The same command goes on where it was stopped or killed, and ends in the same bytes; on a finished
folder it compares every shard with its checksum."""

EPILOG = f"""\
examples:
  {PROGRAM} --data photos --out latents/photos --vae mse --skip-broken
  {PROGRAM} --data tfds:imagenet2012 --out latents/imagenet256 --flip \\
      --orientation stored --vae ema --compute-dtype bfloat16 --workers 8
  {PROGRAM} --data videos --num-frames 48 --out latents/videos --vae mse
  {PROGRAM} --data shards --out latents/shards --vae ema \
      --text-encoder hf://PixArt-alpha/PixArt-XL-2-512x512
  {PROGRAM} --verify --out latents/photos
  python train.py --config configs/dit_xl2_skip.py --workdir RUN --config.data.path=latents/photos

Latents are stored unscaled; train.py multiplies by data.latent_scale. Several processes share the
folder: each makes every n-th shard. Results do not depend on processes, threads or workers; a
batch, a slice or a device of another kind may round differently, so that the first two must stay
the same while a folder is made. A bad flag, file or picture is told in one line, exit code 2, and
leaves whole shards only; with --skip-broken added the same command goes on."""


@dataclass(frozen=True, kw_only=True)
class EncodeOptions:
    """Everything that was typed; see `--help`."""

    data: str | None
    split: str
    data_dir: str
    image_size: tuple[int, int]
    orientation: str
    skip_broken: bool
    num_frames: int | None
    frame_stride: int
    flip: bool
    vae: str | None
    text_encoder: list[str] | None
    text_length: list[int] | None
    text_clean: str | None
    compute_dtype: str
    kind: str
    seed: int
    out: Path
    dtype: str
    format: str
    shard_size: int
    verify: bool
    batch_size: int
    slice: int | None
    workers: int
    threads: int
    progress: bool
    cluster: Cluster


def parse(argv: Sequence[str] | None) -> EncodeOptions:
    """Reads the flags.

    Raises:
      ValueError: a flag or value that does not exist or has no use beside the others.
      SystemExit: after --help.
    """
    values: dict[str, Any] = vars(make_parser().parse_args(argv))
    cluster = from_flags(values)
    sides = values.pop("image_size")
    if len(sides) > len(SIDES):
        raise ValueError(f"--image-size {sides}: wanted a side, or height and width")
    if values["shard_size"] is None:
        values["shard_size"] = CAPTIONED_SHARD if values["text_encoder"] else SHARD_SIZE
    options = EncodeOptions(**values, image_size=(sides[0], sides[-1]), cluster=cluster)
    if not options.verify and (options.data is None or options.vae is None):
        raise ValueError("wanted --data SOURCE and --vae FILE (or --verify)")
    if options.data and not options.data.startswith(TFDS):
        typed = {"--split": options.split != TRAIN, "--data-dir": bool(options.data_dir)}
        if unused := [flag for flag, given in typed.items() if given]:
            raise ValueError(f"{' and '.join(unused)}: of {TFDS}NAME, but --data is {options.data}")
    _check_texts(options)
    if options.batch_size > MAX_BATCH:
        raise ValueError(f"--batch-size {options.batch_size}: wanted at most {MAX_BATCH}")
    if options.num_frames is None and options.frame_stride != 1:
        raise ValueError("--frame-stride: wanted --num-frames, of the clips")
    return options


def _check_texts(options: EncodeOptions) -> None:
    typed = {"--text-length": options.text_length, "--text-clean": options.text_clean}
    if not options.text_encoder:
        if unused := [flag for flag, given in typed.items() if given]:
            raise ValueError(f"{' and '.join(unused)}: wanted --text-encoder beside it")
        if options.data and options.data.lower().endswith(OF_CAPTIONS):
            raise ValueError(f"--data {options.data}: holds captions, wanted --text-encoder")
        return
    if len(options.text_encoder) > MOST_ENCODERS:
        found = len(options.text_encoder)
        raise ValueError(f"--text-encoder: found {found}, wanted one, or BERT and T5")
    if options.data and options.data.startswith(TFDS):
        raise ValueError(
            f"--text-encoder: --data {options.data} has no captions, wanted a folder, a list "
            "(.jsonl) or .tar shards"
        )


def make_parser() -> argparse.ArgumentParser:
    """The parser of the tool."""
    parser = OneLineParser(
        prog=PROGRAM,
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    _add_source(parser.add_argument_group("what to encode"))
    _add_encoder(parser.add_argument_group("how to encode it"))
    _add_texts(parser.add_argument_group("captions"))
    _add_output(parser.add_argument_group("what to write"))
    _add_computing(parser.add_argument_group("computing"))
    add_flags(parser)
    return parser


def _add_source(group: Any) -> None:
    add = group.add_argument
    add(
        "--data",
        metavar="SOURCE",
        help="a folder of class folders of pictures; with --num-frames a folder or list of videos "
        f"(docs/training.md); or {TFDS}NAME, a prepared set of TFDS; with --text-encoder pictures "
        "or videos with a caption each: a folder with NAME.txt or NAME.json beside every file, a "
        "list LIST.jsonl, or webdataset's .tar shards",
    )
    add("--split", default=TRAIN, help="of a set of TFDS; default: %(default)s")
    add("--data-dir", default="", metavar="DIR", help="of TFDS; default: its own")
    add(
        "--image-size",
        type=positive,
        nargs="+",
        default=[IMAGE_SIZE],
        metavar="PIXELS",
        help="side, or height and width, that pictures are scaled and cropped to; default: "
        f"{IMAGE_SIZE}",
    )
    add(
        "--orientation",
        choices=ORIENTATIONS,
        default="upright",
        help="turn pictures and videos as their files ask, or take the pixels as stored, which is "
        "how ADM prepared ImageNet; default: %(default)s",
    )
    add(
        "--skip-broken",
        action="store_true",
        help="pass over pictures and videos that cannot be read, or are too short, and name them "
        "in the end",
    )
    add(
        "--num-frames",
        type=positive,
        metavar="F",
        help="one clip of each video, of so many frames, from a place drawn by the seed; training "
        "may take fewer of them, from another place each time; default: pictures",
    )
    add("--frame-stride", type=positive, default=1, metavar="S", help="of a clip; default: 1")
    add(
        "--flip",
        action="store_true",
        help="store each picture or clip twice, as it is and mirrored: examples 2k and 2k+1",
    )


def _add_encoder(group: Any) -> None:
    add = group.add_argument
    add(
        "--vae",
        metavar="ema|mse|FILE",
        help="the autoencoder: Stability AI's sd-vae-ft-ema or -mse, a file, or where to fetch "
        "one, hf://OWNER/REPO/FILE, https://... (docs/weights.md)",
    )
    add(
        "--compute-dtype",
        choices=COMPUTE_DTYPES,
        default="float32",
        help="of the autoencoder; default: %(default)s",
    )
    add(
        "--kind",
        choices=KINDS,
        default=MOMENTS,
        help="moments: mean and log-variance, of which training draws anew each time; sample: one "
        "draw, by the seed and the number of the example, half the size; default: %(default)s",
    )
    add(
        "--seed",
        type=seed,
        default=0,
        metavar="N",
        help="of samples and of where clips begin; default: %(default)s",
    )


def _add_texts(group: Any) -> None:
    add = group.add_argument
    add(
        "--text-encoder",
        nargs="+",
        metavar="FOLDER|hf://OWNER/REPO[/FOLDER]",
        help="encodes captions too, for models of text: T5, or for HunYuan-DiT BERT and mT5, or a "
        "pipeline that has them",
    )
    add(
        "--text-length",
        type=positive,
        nargs="+",
        metavar="L",
        help="pieces of a caption, of each encoder; default: 120 of T5, 77 and 256 of two",
    )
    add(
        "--text-clean",
        choices=CLEANERS,
        help="what captions go through first; default: caption of one encoder, strip of two",
    )


def _add_output(group: Any) -> None:
    add = group.add_argument
    add(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="new, empty, or begun by the same command; the same for all processes",
    )
    add("--dtype", choices=DTYPES, default="float16", help="of the file; default: %(default)s")
    add("--format", choices=FORMATS, default="array_record", help="default: %(default)s")
    add(
        "--shard-size",
        type=positive,
        metavar="N",
        help="examples of a file, held in memory; best a multiple of the batch size; default: "
        f"{SHARD_SIZE}, with captions {CAPTIONED_SHARD}",
    )
    add(
        "--verify",
        action="store_true",
        help="encode nothing: compare every shard of --out with its checksum",
    )


def _add_computing(group: Any) -> None:
    add = group.add_argument
    add(
        "--batch-size",
        type=positive,
        default=BATCH,
        metavar="B",
        help="examples at a time of one process, split over its devices; default: %(default)s",
    )
    add(
        "--slice",
        type=positive,
        metavar="N",
        help="pictures or frames of a batch that are encoded at a time; default: on CPU one on "
        "each device, else as many as the batch has examples",
    )
    add("--workers", type=natural, default=0, metavar="N", help="reading processes; default: 0")
    add(
        "--threads",
        type=positive,
        default=THREADS,
        metavar="N",
        help="reading threads of each, a batch each; default: %(default)s",
    )
    add("--progress", action="store_true", help="a bar of batches, on process 0")
