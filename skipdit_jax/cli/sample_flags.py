"""The parser of sample.py: names, meanings and help of its flags."""

import argparse
from pathlib import Path
from typing import Any

from skipdit_jax.cli.distributed import add_flags
from skipdit_jax.cli.errors import OneLineParser
from skipdit_jax.cli.evaluation_flags import add_evaluation_flags
from skipdit_jax.cli.numbers import finite, labels, natural, positive, seed
from skipdit_jax.layers.attention import IMPLEMENTATIONS
from skipdit_jax.models.backbone import DTYPES
from skipdit_jax.pipeline import METHODS
from skipdit_jax.registry import DIGITS
from skipdit_jax.sampling.drivers import DRIVERS
from skipdit_jax.sampling.methods import read_method

PROGRAM = "sample.py"
MAX_BATCH = 64  # samples in one program, if the user does not say
FID_BATCH = 32  # samples at a time of one process, as published (sample_ddp.py of DiT)
MAX_FILES = 10**7  # of one folder
DEFAULT_OUT = Path("samples.png")

DESCRIPTION = f"""\
Samples pictures or clips of classes with a Diffusion Transformer, parts of it reused from step to
step by a cache. Without flags: all ten handwritten digits, from the weights that come with the
package ({DIGITS})."""

EPILOG = """\
examples:
  python sample.py
  python sample.py --class-labels 3 1 4 1 5 --num-sampling-steps ddim50 --sampler ddim --out pi.png
  python sample.py --compare --class-labels 0 1 2 3 --out compare.png
  python sample.py --compare N3 fora:3 taylor:4:2 --sampler ddim --out methods.png
  python sample.py --ckpt hf://GuanjieChen/Skip-DiT/DiT-XL-2-skip.pt --cache N3-1000-20
  python sample.py --model DiT-XL/2-skip --ckpt DiT-XL-2-skip.pt --vae mse --cfg-scale 4
  python sample.py --model latte-digits --class-labels 3 1 4 --out clips.mp4
  python sample.py --ckpt hf://GuanjieChen/Skip-DiT/Latte-skip.pt --cache N2 --out dog.mp4 \\
      --prompt "a dog in astronaut suit, surfing"

Models of clips write a grid that moves as MP4 (H.264) and GIF, at 8 frames per second, and a strip
as PNG: a row for each clip, its frames from left to right.

Pictures become bytes by 127.5 x + 128, clipped to 0..255, the fraction cut off, as in the
published samples. Latents (4 channels) are decoded by the autoencoder of --vae, that of a released
checkpoint by itself; without one, or with --out NAME.npz, they are written to an .npz file (latents
float32 [n,H,W,C] or [n,F,H,W,C], labels). python -m skipdit_jax.cli.models lists what is released.
A bad flag or file is told in one line, exit code 2, and nothing is written."""


def make_parser() -> argparse.ArgumentParser:
    """The parser of sample.py."""
    parser = OneLineParser(
        prog=PROGRAM,
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    _add_model(parser.add_argument_group("model and weights"))
    _add_autoencoder(parser.add_argument_group("autoencoder of latents"))
    _add_sampling(parser.add_argument_group("what and how to sample"))
    _add_text(parser.add_argument_group("models of text"))
    _add_cache(parser.add_argument_group("caches"))
    _add_output(parser.add_argument_group("computing and writing"))
    _add_many(parser.add_argument_group("many samples, for FID"))
    add_evaluation_flags(parser.add_argument_group("evaluation of many samples"))
    add_flags(parser)
    return parser


def _add_model(group: Any) -> None:
    add = group.add_argument
    add(
        "--model",
        metavar="NAME",
        help=f"such as DiT-XL/2-skip; default: what --ckpt holds, without it {DIGITS}",
    )
    add(
        "--ckpt",
        metavar="PATH|hf://OWNER/REPO/FILE[@REVISION]|https://...",
        help="weights: .pt, .pth, .bin, .safetensors or a run folder; fetched once if they are "
        f"elsewhere; default: those that come with {DIGITS}",
    )
    add("--weights", choices=("ema", "model"), help="where a file has both; default: ema")
    add_place(add)
    add("--image-size", type=positive, metavar="PIXELS", help="side; default: the model's")
    add("--num-classes", type=natural, metavar="N", help="default: the model's")
    add(
        "--num-heads",
        type=positive,
        metavar="N",
        help="of a state dict whose size was never published; default: the model's",
    )
    add(
        "--num-frames",
        type=positive,
        metavar="F",
        help="of a clip, at most as many as the weights know; default: the model's",
    )


def add_place(add: Any) -> None:
    """The flags that say where in a file the weights are."""
    add(
        "--key",
        metavar="KEY",
        help="of the dict in a file of torch that holds the weights, OUTER/INNER of nested ones; "
        "default: found",
    )
    add(
        "--prefix",
        metavar="TEXT",
        help="what the names of the weights begin with, such as net.; default: found",
    )


def _add_autoencoder(group: Any) -> None:
    add = group.add_argument
    add(
        "--vae",
        metavar="ema|mse|PATH|none",
        help="what makes pictures of latents: Stability AI's sd-vae-ft-ema or -mse, or a file as "
        "for --ckpt; none writes latents; default: the checkpoint's own, that of a released one, "
        "else none",
    )
    add(
        "--vae-slice",
        type=positive,
        metavar="N",
        help="pictures, frames or (temporal decoder) clips that a device decodes at a time; "
        "default: 1 on CPU (small ones together), else 16",
    )
    add(
        "--vae-tile",
        type=positive,
        metavar="N",
        help="decode overlapping squares of N latents: less memory for large pictures, nearly the "
        "same numbers; default: whole pictures",
    )


def _add_sampling(group: Any) -> None:
    add = group.add_argument
    add(
        "--num-sampling-steps",
        metavar="S",
        help="1..1000, or a spacing such as ddim50, 10,15,25, leading50+1, trailing50 or "
        "linspace20; default: the checkpoint's, else as published for the family, 250 of DiT",
    )
    add(
        "--sampler",
        type=_sampler,
        metavar="METHOD",
        help=f"{', '.join(METHODS)}; with settings in brackets, 'dpm++(order=1, karras=True)', "
        "'flow-euler(shift=3.0)'; default: the checkpoint's, else that of the model's family: ddpm "
        "of DiT and Latte, dpm++ of PixArt, ddim of LatteT2V",
    )
    add("--eta", type=finite, metavar="X", help="noise of ddim, 0 to 1; default: 0")
    add(
        "--cfg-scale",
        type=finite,
        metavar="X",
        help="guidance, at most 1 is none; default: the checkpoint's, else 4",
    )
    add(
        "--cfg-rescale",
        type=finite,
        metavar="X",
        help="how much of the contrast that guidance adds is taken back, 0 to 1; default: 0",
    )
    add(
        "--guidance-interval",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="timesteps of the model between which it guides; default: all",
    )
    add("--seed", type=seed, default=0, metavar="N", help="default: %(default)s")
    add(
        "--class-labels",
        nargs="+",
        type=labels,
        metavar="Y",
        help="numbers separated by spaces or commas, or names of classes where the weights keep "
        "them (those of train.py do); default: the 8 of the published ImageNet samples, of fewer "
        "classes the first 10",
    )
    add(
        "--num-samples",
        type=positive,
        metavar="N",
        help="of each label, one row each; default: the checkpoint's, with --class-labels 1",
    )


def _add_text(group: Any) -> None:
    add = group.add_argument
    add(
        "--prompt",
        action="append",
        metavar="TEXT",
        help="what to draw, one row for each; may be repeated",
    )
    add("--prompts", type=Path, metavar="FILE", help="further ones, a line each; in UTF-8")
    add(
        "--negative-prompt",
        metavar="TEXT",
        help="what to be guided away from; a space is nothing; default: as published for the "
        "family, of most nothing",
    )
    add(
        "--text-encoder",
        nargs="+",
        metavar="FOLDER|hf://OWNER/REPO[/FOLDER]",
        help="where the encoder lies, or for HunYuan-DiT BERT and mT5, or a pipeline that has what "
        "the model wants; default: the pipeline of --ckpt, else that of a released one",
    )
    add(
        "--prompt-embeds",
        type=Path,
        metavar="FILE.npz",
        help="embeddings of the prompts: read if the file is there (then no encoder is needed), "
        "else written",
    )
    add(
        "--offload-text",
        action="store_true",
        default=None,
        help="free the text encoders before the weights are read: that is always done",
    )
    add("--width", type=positive, metavar="PIXELS", help="of pictures; default: the model's")
    add("--height", type=positive, metavar="PIXELS", help="of pictures; default: the model's")
    add("--fps", type=positive, metavar="N", help="frames per second of clips; default: 8")
    add(
        "--seeds",
        nargs="+",
        type=seed,
        metavar="N",
        help="one for each prompt, in place of --seed: a prompt then gives the same picture "
        "whatever stands beside it",
    )


def _add_cache(group: Any) -> None:
    add = group.add_argument
    add(
        "--cache",
        metavar="METHOD|none",
        help="what is reused from step to step: N3-1000-20 (Skip-Cache: the whole network every "
        "3rd step, its deep part reused between, from timestep 1000 down to 20), fora:3, "
        "taylor:4:2, taylor(interval=4, order=2), pab:2:3, fora:3+faster-cache(attention=False); "
        "python -m skipdit_jax.cli.caches lists all; default: the checkpoint's or that of "
        "DiT-cache-N, else none",
    )
    add("--cache-step", type=natural, metavar="N", help="the N of --cache alone")
    add(
        "--cache-at-branch",
        type=natural,
        metavar="K",
        help="blocks at each end that always run; default: as published, 4 of XL, else 1",
    )
    add("--driver", choices=DRIVERS, default="scan", help="form of the loop; default: %(default)s")


def _add_output(group: Any) -> None:
    add = group.add_argument
    add(
        "--batch-size",
        type=positive,
        metavar="B",
        help=f"samples at a time; default: all, at most {MAX_BATCH}",
    )
    add("--dtype", choices=DTYPES, default="float32", help="to compute in; default: %(default)s")
    add("--attention", choices=IMPLEMENTATIONS, default="auto", help="default: %(default)s")
    add(
        "--hoist",
        action=argparse.BooleanOptionalAction,
        help="make keys and values of texts once, for the memory that is printed behind 'text', or "
        "at each step: slower; default: once, unless they take more memory than the weights and "
        "than 256 MiB",
    )
    add(
        "--out",
        type=Path,
        default=DEFAULT_OUT,
        metavar="FILE",
        help="the picture, .png, .jpg or .webp; of clips NAME.mp4, NAME.gif and NAME.png (a strip "
        "of frames), whichever of the three is named; missing folders are made; default: "
        "%(default)s",
    )
    add(
        "--npz",
        type=Path,
        metavar="FILE",
        help="also arr_0, uint8 [n,H,W,C], of clips [n,F,H,W,C], and labels, int64 [n]; default: "
        "not written",
    )
    add(
        "--plot-decisions",
        type=Path,
        metavar="FILE.png",
        help="of a cache that decides: what it compared at each step, and which were computed",
    )
    add(
        "--compare",
        nargs="*",
        metavar="CACHE",
        help="the same noise uncached, cached as named (N3 fora:3 taylor:4:2; none named: with "
        "N = 2, 3, 4 and that of --cache), and with fewer steps of equal FLOPs: one labelled "
        "picture (of clips also one that moves), PSNR, SSIM and measured speedups",
    )
    add(
        "--report",
        type=Path,
        metavar="FILE.html",
        help="of --compare: one page with samples, curves and tables, and FILE.json",
    )
    add("--progress", action="store_true", help="a bar, moved from inside the compiled loop")


def _add_many(group: Any) -> None:
    add = group.add_argument
    add(
        "--num-fid-samples",
        type=positive,
        metavar="N",
        help="samples of classes drawn by the seed; a run that was stopped goes on",
    )
    add(
        "--per-proc-batch-size",
        type=positive,
        metavar="B",
        help=f"samples at a time of each process; default: {FID_BATCH}",
    )
    add(
        "--sample-dir",
        type=Path,
        metavar="DIR",
        help="gets 000000.png, ... (of a clip its frames from top to bottom) and samples.npz "
        "(arr_0 uint8 [n,H,W,C] or [n,F,H,W,C], labels)",
    )


def _sampler(text: str) -> str:
    try:
        read_method(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text.strip()
