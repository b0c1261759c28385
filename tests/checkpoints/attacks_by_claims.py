"""Files that claim more than they hold: of native configs, and of shapes of a state dict."""

import json
import struct

import numpy as np

from skipdit_jax.checkpoints.limits import MAX_BLOCKS
from skipdit_jax.registry import ASSETS
from tests.checkpoints.attack_kit import ATTACKS, attack
from tests.checkpoints.states import torch_shapes, torch_state, write_state
from tests.checkpoints.torch_makers import dictionary, tensor, write_zip


def native(path, family="dit", more=None, **fields):
    """The bundled model with another config."""
    source = ASSETS / ("dit_digits.safetensors" if family == "dit" else "latte_digits.safetensors")
    data = source.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    config = json.loads(header["__metadata__"]["config"])
    config["model"] |= fields
    config["family"] = family
    if family not in ("dit", "latte"):
        config["model"] = fields
    config |= more or {}
    header["__metadata__"]["config"] = json.dumps(config)
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data[8 + length :])


CLAIMS = {
    "width": {"hidden_size": 10**9},
    "depth": {"depth": 10**9},
    "depth_of_tensors": {"depth": 200},
    "side": {"input_size": 8192},
    "rectangle": {"input_size": [2, 2 * 10**8]},
    "classes": {"num_classes": 10**12},
    "heads": {"num_heads": 64},
    "channels": {"in_channels": 10**9},
    "patch": {"patch_size": 8192, "input_size": 8192},
    "ratio": {"mlp_ratio": 1e300},
    "no_ratio": {"mlp_ratio": 0},
    "all": {"hidden_size": 10**9, "depth": 10**9, "input_size": 8192},
    "largest_table": {"input_size": 1448},
    "kind": {"dtype": "x" * 10**6},
    "fields": {f"field{i}": 1 for i in range(50_000)},
    "type": {"hidden_size": 64.0},
    "truth": {"skip": 7},
}
for label, fields in CLAIMS.items():
    ATTACKS[f"claims_{label}"] = lambda path, fields=fields: native(path, **fields)
ATTACKS["claims_frames"] = lambda path: native(path, "latte", num_frames=10**8)
ATTACKS["claims_levels"] = lambda path: native(path, "vae", block_out_channels=[32] * 10**5)
ATTACKS["claims_layers"] = lambda path: native(path, "vae", layers_per_block=10**9)
STATED = {
    "timesteps": {"diffusion": {"num_timesteps": 10**9}},
    "cosine": {"diffusion": {"num_timesteps": 10**9, "schedule": "squaredcos_cap_v2"}},
    "range": {"diffusion": {"beta_range": [0.1] * 10**5}},
    "steps": {"sampling": {"steps": "1," * 10**6}},
    "cache": {"sampling": {"cache": "skip-cache(every=" + "(" * 10**6}},
    "samples": {"sampling": {"num_samples": 10**12}},
    "guidance": {"sampling": {"guidance": float("nan")}},
    "unknown": {"sampling": {f"x{i}": 0 for i in range(50_000)}},
}
for label, stated in STATED.items():
    ATTACKS[f"states_{label}"] = lambda path, stated=stated: native(path, more=stated)


@attack
def a_million_tokens(path):
    """The issue's own: 1 MB, and 7.8 GB at the width of XL."""
    arrays = {"pos_embed": np.zeros((1, 10**6, 1), np.float16)}
    for key, shape in torch_shapes(False).items():
        if key != "pos_embed":
            arrays[key] = np.zeros((1, *shape[1:]) if len(shape) == 4 else shape, np.float32)
    arrays["x_embedder.proj.weight"] = np.zeros((1152, 3, 2, 2), np.float32)
    write_state(path, arrays)


@attack
def a_million_frames(path):
    arrays = torch_state(False)
    arrays["temp_embed"] = np.zeros((1, 10**6, 1), np.float16)
    write_state(path, arrays)


@attack
def a_model_of_one_storage(path):
    """Everything in it views the same 4 MB."""
    width, numel = 1024, 2**20
    shapes = {}
    for key, shape in torch_shapes(False).items():
        if not key.startswith("blocks."):
            shapes[key] = tuple(width if size == 8 else size for size in shape)
    shapes["pos_embed"] = (1, 4, width)
    for i in range(90):
        for part, shape in {
            "attn.qkv": (3, 1), "attn.proj": (1, 1), "mlp.fc1": (1, 1), "mlp.fc2": (1, 1),
            "adaLN_modulation.1": (6, 1),
        }.items():  # fmt: skip
            rows = min(shape[0] * width, numel // width)
            shapes[f"blocks.{i}.{part}.weight"] = (rows, width)
            shapes[f"blocks.{i}.{part}.bias"] = (shape[0] * width,)
    items = {key: tensor("0", shape, numel=numel) for key, shape in shapes.items()}
    write_zip(path, dictionary(items), [("0", bytes(4 * numel))])


@attack
def blocks_without_number(path):
    names = {f"blocks.{i}.adaLN_modulation.1.bias": (48,) for i in range(20_000)}
    shapes = {**torch_shapes(False), **names}
    numel = max(int(np.prod(shape)) for shape in shapes.values())
    items = {key: tensor("0", shape, numel=numel) for key, shape in shapes.items()}
    write_zip(path, dictionary(items), [("0", bytes(4 * numel))])


@attack
def blocks_just_allowed(path):
    shapes = torch_shapes(False)
    for key, shape in torch_shapes(False).items():
        if key.startswith("blocks.0."):
            shapes |= {key.replace(".0.", f".{i}.", 1): shape for i in range(MAX_BLOCKS)}
    numel = max(int(np.prod(shape)) for shape in shapes.values())
    items = {key: tensor("0", shape, numel=numel) for key, shape in shapes.items()}
    write_zip(path, dictionary(items), [("0", bytes(4 * numel))])
