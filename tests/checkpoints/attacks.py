"""Files of at most 16 MiB that were made to cost whoever opens them seconds and gigabytes.

usage: python -m tests.checkpoints.attacks FILE ...    prints what each one costs as JSON
"""

import json
import sys
import time
from pathlib import Path

import jax.numpy as jnp

from skipdit_jax import registry, weights
from skipdit_jax.checkpoints import CheckpointError
from skipdit_jax.weights.networks import filled
from skipdit_jax.weights.recipe import read_diffusion, read_recipe
from tests.checkpoints import (
    attacks_by_claims,
    attacks_on_arrays,
    attacks_on_headers,
    attacks_on_pickles,
)
from tests.checkpoints.attack_kit import ATTACKS
from tests.checkpoints.memory_probe import field, forget_peak

__all__ = [
    "ATTACKS",
    "attacks_by_claims",
    "attacks_on_arrays",
    "attacks_on_headers",
    "attacks_on_pickles",
]


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
