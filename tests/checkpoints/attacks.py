"""Files of at most 16 MiB that were made to cost whoever opens them seconds and gigabytes.

usage: python -m tests.checkpoints.attacks FILE ...    prints what each one costs as JSON
"""

import json
import pickle
import struct
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from skipdit_jax import registry, weights
from skipdit_jax.checkpoints import CheckpointError
from skipdit_jax.checkpoints.limits import MAX_BLOCKS
from skipdit_jax.registry import ASSETS
from skipdit_jax.weights.networks import filled
from skipdit_jax.weights.recipe import read_diffusion, read_recipe
from tests.checkpoints.memory_probe import field, forget_peak
from tests.checkpoints.states import torch_shapes, torch_state, write_state
from tests.checkpoints.torch_makers import (
    MAGIC,
    call,
    dictionary,
    group,
    name,
    storage,
    tensor,
    write_zip,
)

SIZE = 2**24 - 2**16  # of each file, with what stands around it
PRIME = 2**61 - 1  # numbers that differ by a multiple of it have one hash
MEMO, RECALL = pickle.BINPUT, pickle.BINGET

ATTACKS = {}


def attack(function):
    ATTACKS[function.__name__] = function
    return function


def fill(code, share=1):
    """An instruction as often as it fits into a share of the file."""
    return code * (SIZE // share // len(code))


def long(value):
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return pickle.LONG1 + bytes([len(data)]) + data


def text(value):
    return pickle.BINUNICODE + struct.pack("<I", len(value)) + value.encode()


def entries(keys):
    """A dict of so many keys, as far as they fit."""
    parts, size = [pickle.EMPTY_DICT], 0
    for key in keys:
        parts.append(key + pickle.NONE + pickle.SETITEM)
        size += len(parts[-1])
        if size > SIZE:
            break
    return b"".join(parts)


def numbers():
    return range(10**7)


@attack
def marks(path):
    write_zip(path, fill(pickle.MARK))


@attack
def marks_of_the_older_format(path):
    path.write_bytes(MAGIC + pickle.dumps(1001, 2) + fill(pickle.MARK))


@attack
def keys_of_one_hash(path):
    write_zip(path, entries(long(i * PRIME) for i in numbers()))


@attack
def keys_that_share_their_last_bits(path):
    write_zip(path, entries(long(i << 40) for i in numbers()))


@attack
def keys_that_are_fractions(path):
    write_zip(
        path,
        entries(pickle.BINFLOAT + struct.pack(">d", float(i * PRIME)) for i in range(1, 10**6)),
    )


@attack
def small_keys(path):
    write_zip(path, entries(pickle.BININT + struct.pack("<i", i) for i in numbers()))


@attack
def keys_in_pairs(path):
    pairs = b"".join(long(i * PRIME) + pickle.NONE + pickle.TUPLE2 for i in range(SIZE // 32))
    listed = pickle.EMPTY_LIST + pickle.MARK + pairs + pickle.APPENDS
    write_zip(path, call(name("collections", "OrderedDict"), listed))


@attack
def one_huge_key(path):
    half = SIZE // 2
    huge = pickle.LONG4 + struct.pack("<i", half) + b"\x7f" * half + MEMO + b"\0"
    again = RECALL + b"\0" + pickle.NONE + pickle.SETITEM
    write_zip(path, pickle.EMPTY_DICT + huge + pickle.NONE + pickle.SETITEM + fill(again, 2))


@attack
def two_long_texts(path):
    long_text = "x" * (SIZE // 4)
    both = text(long_text) + MEMO + b"\0" + text(long_text) + MEMO + b"\1"
    again = (RECALL + b"\0" + pickle.NONE + pickle.SETITEM) + (
        RECALL + b"\1" + pickle.NONE + pickle.SETITEM
    )
    write_zip(path, both + pickle.EMPTY_DICT + fill(again, 2))


def again(function, built):
    """The same call many times, of the same long value."""
    head = name(*function) + MEMO + b"\0" + built + pickle.TUPLE1 + MEMO + b"\1"
    return head + fill(RECALL + b"\0" + RECALL + b"\1" + pickle.REDUCE, 2)


def long_list(items):
    return pickle.EMPTY_LIST + pickle.MARK + fill(items, 4) + pickle.APPENDS


@attack
def a_dict_built_again_and_again(path):
    pair = pickle.NONE + pickle.NONE + pickle.TUPLE2
    write_zip(path, again(("collections", "OrderedDict"), long_list(pair)))


@attack
def a_size_built_again_and_again(path):
    write_zip(path, again(("torch", "Size"), long_list(pickle.NONE)))


@attack
def attributes_set_again_and_again(path):
    state = entries(pickle.BININT + struct.pack("<i", i) for i in range(10**5)) + MEMO + b"\0"
    record = name("argparse", "Namespace") + pickle.EMPTY_TUPLE + pickle.REDUCE
    write_zip(path, state + record + fill(RECALL + b"\0" + pickle.BUILD, 2))


@attack
def deep_tuples(path):
    write_zip(path, pickle.NONE + fill(pickle.TUPLE1))


@attack
def empty_dicts(path):
    write_zip(path, fill(pickle.EMPTY_DICT))


@attack
def names_for_one_value(path):
    write_zip(path, pickle.NONE + fill(pickle.MEMOIZE))


@attack
def names_far_apart(path):
    slots = (pickle.LONG_BINPUT + struct.pack("<I", i * 2**12) for i in range(2**20))
    write_zip(path, pickle.NONE + b"".join(slots))


@attack
def tensors_without_number(path):
    one = tensor("0", (1,)) + MEMO + b"\0" + pickle.POP
    names = (text(f"n{i}") + RECALL + b"\0" + pickle.SETITEM for i in range(10**6))
    items = b"".join(names)[: SIZE - 2**10]
    whole = items[: items.rindex(pickle.SETITEM) + 1]
    first = pickle.EMPTY_DICT + text("first") + one.removesuffix(pickle.POP) + pickle.SETITEM
    write_zip(path, first + whole, [("0", bytes(4))])


@attack
def names_without_end(path):
    write_zip(path, entries(text(f"{i} " + "n" * 200) for i in numbers()))


@attack
def members_without_number(path):
    _many_members(path, 130_000)


@attack
def members_just_allowed(path):
    _many_members(path, 60_000)


def _many_members(path, count):
    """Their headers lie on each other: zipfile would refuse to write that."""
    local = struct.pack("<4s2B4H3L2H", b"PK\3\4", 20, *[0] * 8, 4, 0) + b"a/b0"
    rows = []
    for i in range(count):
        label = f"{i:x}".encode()
        head = struct.pack("<4s4B4H3L5H2L", b"PK\1\2", 20, 0, 20, *[0] * 8, len(label), *[0] * 6)
        rows.append(head + label)
    index = b"".join(rows)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, len(index), len(local), 0)
    path.write_bytes(local + index + end)


@attack
def a_header_without_end(path):
    _safetensors(path, (EMPTY for _ in numbers()), 2**24 - 2**16)


def _safetensors(path, items, room=2**24, metadata=None):
    parts = [] if metadata is None else [f'"__metadata__":{json.dumps(metadata)}']
    size = sum(map(len, parts))
    for i, item in enumerate(items):
        parts.append(f'"{i:x}":{json.dumps(item, separators=(",", ":"))}')
        size += len(parts[-1]) + 1
        if size > room:
            parts.pop()
            break
    header = ("{" + ",".join(parts) + "}").encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


EMPTY = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}


@attack
def a_header_just_allowed(path):
    _safetensors(path, (EMPTY for _ in range(60_000)), 2**22 - 2**10)


@attack
def axes_without_number(path):
    shape = [1] * 1_000_000
    _safetensors(path, [{"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}])


@attack
def deep_json(path):
    header = b'{"a":' + b"[" * 2_000_000 + b"]" * 2_000_000 + b"}"
    path.write_bytes(struct.pack("<Q", len(header)) + header)


@attack
def metadata_without_end(path):
    _safetensors(path, [], metadata={f"{i}": "x" for i in range(180_000)})


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


@attack
def a_block_of_many_digits(path):
    header = json.dumps({f"blocks.{'9' * 10**6}.adaLN_modulation.1.bias": EMPTY}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


@attack
def a_group_without_end(path):
    write_zip(path, group(*[storage("0", 1)] * 50_000))


def use(path):
    """What sample.py does with a file before it computes; returns the error, or None."""
    try:
        checkpoint = weights.open_weights(path)
        diffuses = checkpoint.family.name in registry.FAMILIES
        heads = {"num_heads": 2} if diffuses and not checkpoint.metadata else {}
        known = (*registry.FAMILIES, *registry.AUTOENCODERS)
        network = weights.network_of(checkpoint, known, "any", **heads)
        if diffuses:
            read_recipe(checkpoint, read_diffusion(checkpoint, network), network)
        filled(checkpoint, network)
    except CheckpointError as error:
        return str(error)
    return None


def cost(path):
    """Seconds of the processor that a file takes, and how it is refused."""
    before = time.process_time()
    error = use(path)
    return {"seconds": time.process_time() - before, "error": error}


def main(*paths):
    jnp.zeros(1).block_until_ready()
    registry.abstract_params(registry.build("dit", {"depth": 2, "hidden_size": 8, "num_heads": 2}))
    idle, rows = field("VmRSS"), []
    for path in paths:
        forget_peak()
        found = cost(path)
        peak = (field("VmHWM") - idle) / 2**20
        rows.append({"name": path.name, "megabytes": peak, **found})
    print(json.dumps(rows))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
