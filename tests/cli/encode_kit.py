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
import pytest

from skipdit_jax.cli import encode
from skipdit_jax.data.latents import open_latents
from skipdit_jax.data.open import open_data
from skipdit_jax.data.sources import ANY_CLASS
from skipdit_jax.runs.train_config import default_config, read_train_config
from skipdit_jax.weights import export_vae
from tests.encoders.tiny import make

# A state dict does not tell the groups of its norms: the published 32 want widths of 32.
WIDTHS = {"block_out_channels": (32, 32), "norm_num_groups": 32}
SIDE, FACTOR = 16, 2
BATCH, SHARD = 4, 6
SHAPE = (SIDE // FACTOR, SIDE // FACTOR, 4)
COUNT = 10  # pictures
DEVIATION = 1e-5  # of the root mean square: another batch, another program


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


def made(out, data, vae, *more):
    """The examples of a folder that the tool makes."""
    assert encode.main(flags(data, vae, out, *more)) == 0
    return examples(out)


def assert_near(found, wanted, rounding=0.0):
    """Compares as recordings are compared: a number near 0 is the difference of large ones."""
    wanted = np.asarray(wanted)
    scale = np.sqrt(np.mean(np.square(wanted)))
    np.testing.assert_allclose(found, wanted, rtol=rounding, atol=DEVIATION * scale)


def refused(argv, capsys):
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        encode.main([str(flag) for flag in argv])
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    return told


def opened(folder, shape=SHAPE, batch_size=COUNT, **changes):
    """The first batch that train.py would see."""
    config = default_config()
    config.model.name = "DiT-S/2"
    config.data.update({"name": "latents", "path": str(folder), **changes})
    data = read_train_config(config).data
    return next(open_data(data, sample_shape=shape, num_classes=2, batch_size=batch_size, seed=0))


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
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if death is not None:
        _die_at(*death)
    os._exit(encode.main(typed))


if __name__ == "__main__":
    runs = json.loads(sys.argv[1])
    print(json.dumps([_forked(typed, death) for typed, death in runs]))
