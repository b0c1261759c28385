"""python -m skipdit_jax.cli.convert: rewrites a checkpoint in our own format or in PyTorch's.

Exit codes: 0 done, 2 bad input (one line on stderr, nothing written).
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jax import numpy as jnp

from skipdit_jax import registry, weights
from skipdit_jax.checkpoints import Checkpoint, CheckpointError, config_fields
from skipdit_jax.checkpoints.conversion import (
    LAYOUTS,
    NATIVE,
    Conversion,
    choose_layout,
    plan_conversion,
)
from skipdit_jax.checkpoints.state_dicts import Ask
from skipdit_jax.cli.build import open_source
from skipdit_jax.cli.convert_table import after, before
from skipdit_jax.cli.errors import OneLineParser, show_any_name, told_in_one_line
from skipdit_jax.cli.image_size import latent_side, units_of
from skipdit_jax.cli.interrupts import interruptible
from skipdit_jax.cli.numbers import natural, positive
from skipdit_jax.cli.outputs import check_writable, make_folders
from skipdit_jax.cli.runner import StepBar
from skipdit_jax.cli.sample_flags import add_place
from skipdit_jax.models.backbone import DTYPES

PROGRAM = "convert"
FILE_DTYPES = ("float32", "bfloat16", "float16")

DESCRIPTION = """\
Rewrites a checkpoint (PyTorch's or ours; of a diffusion model, an autoencoder or a network of
metrics, told by its keys) as another file, tensor by tensor: memory holds one of them at a time.
PyTorch is not needed."""

EPILOG = """\
examples:
  python -m skipdit_jax.cli.convert DiT-XL-2-skip.pt dit.safetensors --dtype bfloat16
  python -m skipdit_jax.cli.convert hf://GuanjieChen/Skip-DiT/DiT-XL-2-skip.pt dit.safetensors
  python -m skipdit_jax.cli.convert DiT-XL-2-skip.pt ema.pt --dry-run
  python -m skipdit_jax.cli.convert runs/digits digits.pt

TARGET ends in .pt, .pth or .bin for a state dict that torch.load(weights_only=True) reads, or in
.safetensors: our own format if SOURCE is PyTorch's and the other way round, unless --to says
otherwise. It appears whole or not at all. Position tables stay float32 whatever --dtype says. A bad
flag or file is told in one line, exit code 2, and nothing is written."""


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """Everything that was typed; None is "not given", and the files decide."""

    source: str
    target: Path
    weights: str | None
    key: str | None
    prefix: str | None
    dtype: str | None
    to: str | None
    num_heads: int | None
    num_classes: int | None
    image_size: int | None
    dry_run: bool


def make_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = OneLineParser(
        prog=f"python -m skipdit_jax.cli.{PROGRAM}",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    add = parser.add_argument
    add(
        "source",
        metavar="SOURCE",
        help=".pt, .pth, .bin, .safetensors, a run folder, hf://..., https://...",
    )
    add("target", metavar="TARGET", type=Path, help="the file to write; replaced if it exists")
    add("--weights", choices=("ema", "model"), help="where SOURCE has both; default: ema")
    add_place(add)
    add("--dtype", choices=FILE_DTYPES, help="of the weights; default: as they are")
    add("--to", choices=LAYOUTS, help="layout of TARGET; default: see below")
    add(
        "--num-heads",
        type=positive,
        metavar="N",
        help="of a state dict whose size was never published",
    )
    add(
        "--num-classes",
        type=natural,
        metavar="N",
        help="of a state dict; as many as its label table has rows: none of them is the null",
    )
    add(
        "--image-size",
        type=positive,
        metavar="PIXELS",
        help="side, of a state dict without a position table",
    )
    add("--dry-run", action="store_true", help="check, show the table, write nothing")
    return parser


@interruptible(PROGRAM)
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
      argv: the flags, without the program's name; None for those of the process.

    Returns:
      The exit code, 0.

    Raises:
      SystemExit: with code 2 for bad input, or that of a signal.
    """
    show_any_name()
    start = time.perf_counter()
    with told_in_one_line(PROGRAM):
        options = ConvertOptions(**vars(make_parser().parse_args(argv)))
        conversion = prepare_conversion(options)
    print(before(conversion, options.target), flush=True)
    if not options.dry_run:
        with told_in_one_line(PROGRAM):
            write(conversion, options.target)
    print(after(conversion, None if options.dry_run else options.target, start))
    return 0


def write(conversion: Conversion, target: Path) -> None:
    """Writes the target; a person who watches sees a bar, a log file gets none.

    Raises:
      CheckpointError: see `Conversion.write`.
    """
    make_folders([target])
    bar = StepBar(sys.stderr.isatty())
    with bar.shown(len(conversion.tensors), "tensors"):
        conversion.write(target, bar.advance)


def prepare_conversion(options: ConvertOptions) -> Conversion:
    """Opens the source and decides what becomes of it.

    Raises:
      ValueError: flags that contradict the files, or a target that cannot be written.
      CheckpointError: a source that cannot be read or does not fit its own model.
    """
    ask = Ask(options.weights, options.key, options.prefix)
    checkpoint = open_source(options.source, ask, registry.metric_layouts())
    layout = choose_layout(checkpoint, options.target, options.to)
    check_writable("TARGET", options.target)
    overrides: dict[str, Any] = {}
    if options.dtype and layout == NATIVE:  # what the file is going to say of itself
        overrides["param_dtype"] = options.dtype if options.dtype in DTYPES else DTYPES[0]
    dtype = np.dtype(jnp.dtype(options.dtype)) if options.dtype else None
    overrides |= _sizes(options, checkpoint)
    known = (*registry.FAMILIES, *registry.AUTOENCODERS, *registry.METRIC_NETWORKS)
    network = weights.network_of(checkpoint, known, " or ".join(known), **overrides)
    expected = registry.abstract_params(network)
    return plan_conversion(checkpoint, expected, weights.fields_of(network), layout, dtype)


def _sizes(options: ConvertOptions, checkpoint: Checkpoint) -> dict[str, int]:
    """Fields of the config that were typed.

    Raises:
      ValueError: they are none of an autoencoder's or a network of metrics.
      CheckpointError: a file that knows them is told other ones.
    """
    names = ("num_heads", "num_classes", "image_size")
    typed = {name: value for name in names if (value := getattr(options, name)) is not None}
    if typed and checkpoint.family.name not in registry.FAMILIES:
        label = checkpoint.family.label
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in typed)
        raise ValueError(f"{flags}: {checkpoint.path} holds a {label} model, wanted none")
    own = config_fields(checkpoint, options.num_heads) if typed else {}
    if "image_size" in typed:
        side, units = typed.pop("image_size"), units_of(checkpoint, own)
        typed["input_size"] = latent_side("--image-size", side, *units)
    for name, value in typed.items():
        if checkpoint.which == NATIVE and own.get(name) != value:
            raise CheckpointError(
                f"{checkpoint.path}: has {name} {own.get(name)}, wanted {name} {value}"
            )
    return typed


if __name__ == "__main__":
    sys.exit(main())
