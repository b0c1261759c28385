"""Importing from a training checkpoint needs the chosen weights and one tensor, nothing else."""

import sys

import numpy as np
import pytest

from skipdit_jax import registry
from skipdit_jax.checkpoints.rules import layout
from skipdit_jax.checkpoints.rules_dit import fixed_tables, rules
from tests.checkpoints.subprocesses import in_subprocess
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
    entries = layout(rules(CONFIG), registry.abstract_params(registry.build("dit", CONFIG)))
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
