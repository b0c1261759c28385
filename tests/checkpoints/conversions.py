"""State dicts of all four families, the files that may hold them, and what a file holds."""

import dataclasses
import functools
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

import skipdit_jax as sd
from skipdit_jax import registry, weights
from skipdit_jax.checkpoints import fill, save_native
from skipdit_jax.checkpoints.conversion import choose_layout, plan_conversion
from skipdit_jax.weights import open_known
from tests.checkpoints.states import torch_state, write_state, write_wrapped
from tests.cli.makers import random_params
from tests.encoders.tiny import make

FAMILIES = ("dit", "latte", "vae", "vae_temporal")
HEADS = 2
GROUPS = 4  # of the small autoencoders; no weights tell them
LATTE = {"depth": 4, "hidden_size": 16, "num_heads": HEADS, "input_size": 4, "num_frames": 3}


@functools.lru_cache(maxsize=len(FAMILIES))
def arrays_of(family):
    """{torch name: array}; those of DiT are written out by hand, the others are exported."""
    if family == "dit":
        return torch_state(True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.safetensors"
        if family == "latte":
            model = sd.create_model("Latte-S/2-skip", **LATTE, num_classes=3)
            sd.export_checkpoint(path, random_params(model), model)
        else:
            vae, params = make(family)
            weights.export_vae(path, params, vae)
        return load_file(path)


def described(checkpoint):
    """(shapes of the parameters, config fields) of what an opened checkpoint holds."""
    native = checkpoint.which == "native"
    if checkpoint.family.name in registry.AUTOENCODERS:
        vae = weights.vae_of(checkpoint, **({} if native else {"norm_num_groups": GROUPS}))
        return _shapes(vae), dataclasses.asdict(vae.config)
    model = weights.model_of(checkpoint, **({} if native else {"num_heads": HEADS}))
    return registry.abstract_params(model), dataclasses.asdict(model.config)


@functools.lru_cache(maxsize=8)
def _shapes(vae):
    """Traced once, not for each file of the same autoencoder."""
    return registry.abstract_params(vae)


def loaded(path, which=None):
    """The parameters in a file, by `fill`."""
    checkpoint = open_known(path, which)
    return fill(checkpoint, *described(checkpoint))


def convert(source, target, to=None, dtype=None, which=None):
    """Converts a file and returns the conversion."""
    checkpoint = open_known(source, which)
    layout = choose_layout(checkpoint, target, to)
    dtype = None if dtype is None else np.dtype(dtype)
    conversion = plan_conversion(checkpoint, *described(checkpoint), layout, dtype)
    conversion.write(target)
    return conversion


def held(path):
    """{name: array} of a file, by our own handles."""
    return {name: handle.read() for name, handle in open_known(path).handles.items()}


def native(path, arrays, **metadata):
    """A native file of these weights, by the way through memory that the converter avoids."""
    state = write_state(path.with_name("state.bin"), arrays)
    checkpoint = open_known(state)
    expected, config = described(checkpoint)
    save_native(
        path, fill(checkpoint, expected, config), config, checkpoint.family.name, **metadata
    )
    state.unlink()
    return path


def other_weights(arrays):
    """Weights of the same shapes with the same tables, as a second copy would be."""
    tables = ("pos_embed", "temp_embed")
    return {n: a if n in tables else np.full_like(a, 7) for n, a in arrays.items()}


SOURCES = {
    "bare": lambda folder, arrays: write_state(folder / "x.pt", arrays),
    "ema": lambda folder, arrays: write_wrapped(
        folder / "x.pt", {"model": other_weights(arrays), "ema": arrays}
    ),
    "model": lambda folder, arrays: write_wrapped(
        folder / "x.pth", {"model": arrays, "ema": other_weights(arrays)}
    ),
    "safetensors": lambda folder, arrays: _saved(folder / "x.safetensors", arrays),
    "native": lambda folder, arrays: native(folder / "x.safetensors", arrays),
}
"""Name -> function that writes the arrays to a folder in that layout."""


def _saved(path, arrays):
    save_file(arrays, path)
    return path
