"""What the tests of the encode tool share: small autoencoders on disk, flags, what a folder holds.

Run as a script it makes folders in processes that are killed on the way, see `test_encode_kills`.
"""

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np

from skipdit_jax.data.latents import open_latents
from skipdit_jax.data.sources import ANY_CLASS
from skipdit_jax.weights import export_vae
from tests.encoders.tiny import make

# A state dict does not tell the groups of its norms: the published 32 want widths of 32.
WIDTHS = {"block_out_channels": (32, 32), "norm_num_groups": 32}
SIDE, FACTOR = 16, 2
BATCH, SHARD = 4, 6


def tiny(family="vae"):
    """(autoencoder, parameters)."""
    return make(family, **WIDTHS)


def save_vae(path, family="vae", loud=1):
    """Writes an autoencoder, its moments times a factor; returns the path."""
    vae, params = tiny(family)
    quant_conv = jax.tree.map(lambda leaf: loud * leaf, params["quant_conv"])
    export_vae(path, {**params, "quant_conv": quant_conv}, vae)
    return path


def flags(data, vae, out, *more):
    sizes = ("--image-size", SIDE, "--batch-size", BATCH, "--shard-size", SHARD)
    return [str(flag) for flag in ("--data", data, "--vae", vae, "--out", out, *sizes, *more)]


def examples(folder):
    """All examples of a folder, stacked by name."""
    source = open_latents(folder, num_classes=ANY_CLASS)
    rows = [source[index] for index in range(len(source))]
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def direct(pixels, family="vae"):
    """Moments of uint8 pictures [n,H,W,C], without any of the tool's own steps."""
    vae, params = tiny(family)
    scaled = np.asarray(pixels, np.float32) / np.float32(127.5) - np.float32(1)
    return jax.device_get(_encode(vae, params, scaled))


@partial(jax.jit, static_argnames="vae")
def _encode(vae, params, pixels):
    return vae.apply({"params": params}, pixels, method="encode")


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def _die_at(count, when):
    """Makes the count-th file that takes its name the last act of this process."""
    true, calls = os.replace, []

    def replace(*names):
        calls.append(names)
        if len(calls) == count and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        true(*names)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace


def _forked(typed, death):
    """Runs the tool in a child of its own; returns how it ended."""
    from skipdit_jax.cli import encode

    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if death is not None:
        _die_at(*death)
    os._exit(encode.main(typed))


if __name__ == "__main__":
    runs = json.loads(sys.argv[1])
    print(json.dumps([_forked(typed, death) for typed, death in runs]))
