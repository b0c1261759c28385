"""Importing needs the chosen weights and one tensor, converting one tensor, nothing else."""

import json
import os
import struct
import sys

import numpy as np
import pytest

from skipdit_jax import registry
from skipdit_jax.checkpoints import rules_t5
from skipdit_jax.checkpoints.arrays import PIECE_BYTES
from skipdit_jax.checkpoints.rules import tensor_entries
from skipdit_jax.checkpoints.rules_dit import fixed_tables, rules
from skipdit_jax.encoders.t5 import T5Config
from tests.checkpoints.subprocesses import in_subprocess
from tests.checkpoints.test_layouts import recorded
from tests.checkpoints.torch_makers import dictionary, name, pickle, plain, tensor, write_zip

# 58 MB of weights, of which the label table is 20 MB; the file also holds the model and two
# moments: 234 MB.
CONFIG = {
    "input_size": 8,
    "patch_size": 2,
    "in_channels": 4,
    "hidden_size": 256,
    "depth": 8,
    "num_heads": 4,
    "num_classes": 20_000,
    "skip": True,
}
SLACK = 8 * 2**20  # of the allocator and Python objects; a second copy of the table would be 20 MB


def training_checkpoint(path):
    """{model, ema, opt, args}: every number is 1 in model, 2 in ema, 3 and 4 in the optimiser."""
    entries = tensor_entries(rules(CONFIG), registry.abstract_params(registry.build("dit", CONFIG)))
    shapes = {key: entry.torch_shape for key, entry in entries.items()}
    (table,) = fixed_tables(CONFIG).values()

    def group(number):
        items = {key: tensor(f"{number}.{key}", shape) for key, shape in shapes.items()}
        return dictionary({**items, "pos_embed": tensor(f"{number}.pos_embed", table.shape)})

    def members():
        for number in (1, 2, 3, 4):
            for key, shape in shapes.items():
                yield f"{number}.{key}", np.full(shape, number, np.float32).tobytes()
            yield f"{number}.pos_embed", table.tobytes()

    arguments = name("argparse", "Namespace") + pickle.EMPTY_TUPLE + pickle.NEWOBJ
    content = {
        "model": group(1),
        "ema": group(2),
        "opt": dictionary({"exp_avg": group(3), "exp_avg_sq": group(4)}),
        "args": arguments + plain({"lr": 1e-4}) + pickle.BUILD,
    }
    return write_zip(path, dictionary(content), members())


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_peak_memory_is_the_weights_and_one_tensor(tmp_path):
    path = training_checkpoint(tmp_path / "train.pt")
    found = in_subprocess("tests.checkpoints.memory_probe", path)
    assert found["which"] == "ema"
    assert found["values"] == [2.0]
    assert not found["torch"]
    assert path.stat().st_size > 4 * found["weights"]
    assert found["growth"] >= found["weights"]  # else the measurement measures nothing
    assert found["growth"] <= found["weights"] + found["largest"] + SLACK


# Nearly all of its 280 MB are four linears of 67 MB each, which have to be transposed.
WIDE = {**CONFIG, "depth": 2, "num_classes": 10, "mlp_ratio": 256.0}
DEEP = {**WIDE, "depth": 16}  # 2.2 GB


def sparse_state_dict(path, config):
    """A state dict of zeros that takes no place on the disk, apart from the position table."""
    entries = tensor_entries(rules(config), registry.abstract_params(registry.build("dit", config)))
    tables = fixed_tables(config)
    shapes = {name: table.shape for name, table in tables.items()}
    shapes |= {name: entry.torch_shape for name, entry in entries.items()}
    return sparse_file(path, shapes, b"".join(table.tobytes() for table in tables.values()))


def sparse_file(path, shapes, beginning=b""):
    """Tensors of zeros that take no place on the disk, behind those of the beginning."""
    header, at = {}, 0
    for key, shape in shapes.items():
        end = at + 4 * int(np.prod(shape))
        header[key] = {"dtype": "F32", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + beginning)
    os.truncate(path, 8 + len(text) + at)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize("target", ["y.safetensors", "y.pt"])
@pytest.mark.parametrize("config", [WIDE, pytest.param(DEEP, marks=pytest.mark.slow)])
def test_peak_memory_of_a_conversion_is_one_tensor(tmp_path, config, target):
    source = sparse_state_dict(tmp_path / "x.safetensors", config)
    dtypes = ["float32", "float16"] if target == "y.safetensors" else ["bfloat16"]
    for dtype in dtypes:
        found = in_subprocess("tests.checkpoints.convert_probe", source, tmp_path / target, dtype)
        assert (tmp_path / target).stat().st_size > found["written"] > found["largest"]
        assert source.stat().st_size > 4 * found["largest"]
        assert found["growth"] >= found["largest"]  # else the measurement measures nothing
        # Two slabs may be on their way at once; a second copy would be more.
        assert found["growth"] <= found["largest"] + 2 * PIECE_BYTES + SLACK
        assert found["largest"] > 2 * PIECE_BYTES + SLACK


BUDGET = 10.5e9  # of T5-XXL in bfloat16, 9.52 GB of weights
EIGHTH = {"vocab_size": 4016, "hidden_size": 512, "num_heads": 4, "head_dim": 128}
EIGHTH |= {"mlp_width": 1280}  # every side of XXL by 8, all of its 24 blocks
TABLES = ("shared.weight", "encoder.embed_tokens.weight")


def entries_of(config):
    network = registry.build("t5", config)
    return tensor_entries(rules_t5.rules(config), registry.abstract_params(network))


def sparse_shards(folder, config, count):
    """T5 in float32 over several files, with the table of pieces under both of its names."""
    shapes = {name: entry.torch_shape for name, entry in entries_of(config).items()}
    shapes[TABLES[1]] = shapes[TABLES[0]]
    names, table = list(shapes), {}
    for number in range(count):
        file = f"model-{number + 1:05}-of-{count:05}.safetensors"
        part = names[number * len(names) // count : (number + 1) * len(names) // count]
        sparse_file(folder / file, {name: shapes[name] for name in part})
        table |= dict.fromkeys(part, file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": table}))
    return index


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_an_eighth_of_t5_xxl_needs_its_part_of_the_budget(tmp_path):
    index = sparse_shards(tmp_path, EIGHTH, 3)
    found = in_subprocess("tests.checkpoints.memory_probe", index, "bfloat16")
    full = sum(int(np.prod(entry.shape)) for entry in entries_of({}).values()) * 2
    assert found["growth"] >= found["weights"]  # else the measurement measures nothing
    assert found["growth"] <= found["weights"] * BUDGET / full
    assert (
        sum(path.stat().st_size for path in tmp_path.glob("*.safetensors")) > 2 * found["weights"]
    )


def peak_of(names, shapes, held):
    """Bytes of the leaves read so far, the tensor as the file has it, and its rounded copy."""
    kept = peak = 0
    for one in names:
        numbers = int(np.prod(shapes[one]))
        kept += 2 * numbers
        peak = max(peak, kept + (held + 2) * numbers)
    return peak


def test_t5_xxl_fits_into_its_budget_by_arithmetic():
    """The order of reading matters: the table of pieces is the largest tensor, and comes first."""
    _, shapes = recorded("T5-v1.1-xxl-encoder")
    names = list(entries_of({}))
    assert names[0] == TABLES[0]
    assert registry.build("t5", {}).config == T5Config()
    weights = 2 * sum(int(np.prod(shapes[name])) for name in names)
    assert weights == 9_524_621_312
    for held in (2, 4):  # bytes of a number in the file
        assert weights < peak_of(names, shapes, held) < BUDGET
    assert peak_of([*names[1:], names[0]], shapes, 4) > peak_of(names, shapes, 4)
