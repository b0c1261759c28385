"""Imports a checkpoint and prints by how much the peak memory of the process grew.

usage: python -m tests.checkpoints.memory_probe FILE.pt
       python -m tests.checkpoints.memory_probe TEXT_ENCODER TYPE
"""

import json
import resource
import sys
from pathlib import Path

import jax
import jax.numpy as jnp

from skipdit_jax import registry
from skipdit_jax.checkpoints import config_fields, fill, open_checkpoint
from skipdit_jax.weights import open_known

STATUS = Path("/proc/self/status")


def field(name):
    """One of the sizes of /proc/self/status, in bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def forget_peak():
    """Makes VmHWM start again from the present size, where the system allows it."""
    Path("/proc/self/clear_refs").write_text("5")


def main(path, dtype="float32"):
    jnp.zeros(1).block_until_ready()  # the backend is there before the measurement starts
    text = len(sys.argv) > 2
    checkpoint = open_checkpoint(path, registry.text_layouts()) if text else open_known(path)
    config = {**config_fields(checkpoint, None if text else 4), "param_dtype": dtype}
    expected = registry.abstract_params(registry.build(checkpoint.family.name, config))
    forget_peak()
    before = field("VmRSS")
    params = jax.block_until_ready(fill(checkpoint, expected, config))
    growth = field("VmHWM") - before
    leaves = jax.tree.leaves(params)
    result = {
        "which": checkpoint.which,
        "growth": growth,
        "weights": sum(leaf.nbytes for leaf in leaves),
        "largest": max(leaf.nbytes for leaf in leaves),
        "values": sorted({float(leaf.reshape(-1)[-1]) for leaf in leaves}),
        "torch": "torch" in sys.modules,
        "maxrss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
