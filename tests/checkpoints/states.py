"""Small models whose weights lie in files of torch made byte by byte, not by our own writer."""

import functools

import numpy as np

from skipdit_jax import registry
from skipdit_jax.layers.positions import sincos_2d
from tests.checkpoints.torch_makers import STORAGES, dictionary, state, tensor, write_zip

CONFIG = {
    "input_size": 4,
    "patch_size": 2,
    "in_channels": 3,
    "hidden_size": 8,
    "depth": 2,
    "num_heads": 2,
    "num_classes": 5,
}
WIDTH, PATCH_NUMBERS = 8, 12


def torch_shapes(skip):
    """Names and shapes of a DiT of CONFIG in torch, written out by hand."""
    d = WIDTH
    shapes = {"pos_embed": (1, 4, d), "x_embedder.proj.weight": (d, 3, 2, 2)}
    shapes |= {"x_embedder.proj.bias": (d,), "y_embedder.embedding_table.weight": (6, d)}
    linears = {"t_embedder.mlp.0": (d, 256), "t_embedder.mlp.2": (d, d)}
    for i in range(2):
        linears |= {
            f"blocks.{i}.attn.qkv": (3 * d, d),
            f"blocks.{i}.attn.proj": (d, d),
            f"blocks.{i}.mlp.fc1": (4 * d, d),
            f"blocks.{i}.mlp.fc2": (d, 4 * d),
            f"blocks.{i}.adaLN_modulation.1": (6 * d, d),
        }
    linears["final_layer.linear"] = (2 * PATCH_NUMBERS, d)
    linears["final_layer.adaLN_modulation.1"] = (2 * d, d)
    if skip:
        linears["skip_linears.0.linear"] = (d, 2 * d)
        shapes |= {"skip_norms.0.weight": (2 * d,), "skip_norms.0.bias": (2 * d,)}
    for name, (outputs, inputs) in linears.items():
        shapes |= {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
    return shapes


def torch_state(skip, seed=0):
    """Random arrays of those names, with the true position table."""
    generator = np.random.default_rng(seed)
    arrays = {
        name: generator.standard_normal(shape, np.float32)
        for name, shape in torch_shapes(skip).items()
    }
    arrays["pos_embed"] = np.array(sincos_2d(2, 2, WIDTH))[None]
    return arrays


def write_state(path, arrays, **options):
    """A bare state dict as torch.save writes it."""
    items, members = state(arrays)
    return write_zip(path, items, members, **options)


def write_wrapped(path, groups):
    """{"ema": arrays, "model": arrays, ...} as torch.save writes it."""
    flat = {f"{group}|{key}": a for group, arrays in groups.items() for key, a in arrays.items()}
    _, members = state(flat)
    places = {place: number for number, place in enumerate(flat)}
    content = {
        group: state_at(arrays, [str(places[f"{group}|{key}"]) for key in arrays])
        for group, arrays in groups.items()
    }
    return write_zip(path, dictionary(content), members)


def state_at(arrays, keys):
    """Instructions for {name: array} whose storages have the given keys."""
    return dictionary(
        {
            name: tensor(key, array.shape, kind=STORAGES[array.dtype.name])
            for key, (name, array) in zip(keys, arrays.items(), strict=True)
        }
    )


@functools.lru_cache(maxsize=8)
def model_of(skip, **options):
    """A model of CONFIG, its config fields and the shapes of its parameters."""
    model = registry.build("dit", {**CONFIG, "skip": skip, **options})
    return model, vars(model.config), registry.abstract_params(model)
