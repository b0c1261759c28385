"""Run as a process with 8 virtual devices: prints what test_deciding.py looks at, as JSON."""

import json

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

import skipdit_jax as sd
from skipdit_jax import sharding
from skipdit_jax.pipeline import sample_keys
from tests.networks import random_params

BATCH, STEPS = 8, 10
POLICIES = {
    "first-block": sd.FirstBlockCache(threshold=1.0),
    "teacache": sd.TeaCache(threshold=0.9, over="max"),
    "adacache": sd.AdaCache(codebook=((1.1, 3), (1.3, 2), (2.0, 1))),
    "seacache": sd.SeaCache(threshold=0.6),
    "easycache": sd.EasyCache(threshold=0.6, first=2),
}


def found(policy):
    """Decisions of one device and of eight, and how far samples differ."""
    model = sd.create_model(
        "DiT-S/2", depth=4, hidden_size=16, num_heads=2, input_size=4, num_classes=5
    )
    params, keys = random_params(model), sample_keys(jax.random.key(0), 0, BATCH)
    settings = {"steps": STEPS, "method": "ddim", "guidance": 3.0, "details": True}
    sampler = sd.Sampler(model, cache=policy, **settings)
    labels = np.arange(BATCH) % 5
    one = sampler(params, keys, labels)
    mesh = sharding.make_mesh(sharding.MeshConfig())
    split = jax.device_put(keys, sharding.batch_sharding(mesh))
    whole = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
    eight = sampler(whole, split, labels)
    return {
        "kinds": [np.asarray(run.kinds.trunk).tolist() for run in (one, eight)],
        "compared": [np.asarray(run.compared).tolist() for run in (one, eight)],
        "devices": len(eight.samples.sharding.device_set),
        "off": float(
            np.abs(one.samples - np.asarray(eight.samples)).max() / np.abs(one.samples).max()
        ),
    }


if __name__ == "__main__":
    print(json.dumps({name: found(policy) for name, policy in POLICIES.items()}))
