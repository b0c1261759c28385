"""Run as a process with 8 virtual devices: samples on one and on all of them; prints JSON."""

import json

import jax
import numpy as np

import skipdit_jax as sd
from skipdit_jax import sharding
from skipdit_jax.pipeline import sample_keys
from skipdit_jax.sharding import MeshConfig, make_mesh
from tests.distributed.tiny import BATCH, MODEL
from tests.networks import random_params

CACHES = {
    "toca": sd.ToCa(interval=4, ratio=0.2),
    "random": sd.ToCa(interval=4, ratio=0.2, score="random"),
    "duca": sd.DuCa(interval=4, ratio=0.2),
}


def main():
    assert jax.device_count() == 8
    mesh = make_mesh(MeshConfig())
    params, labels = random_params(MODEL), np.arange(BATCH) % MODEL.config.num_classes
    keys = sample_keys(jax.random.key(0), 0, BATCH)
    split = jax.device_put(keys, sharding.batch_sharding(mesh))
    everywhere = jax.device_put(params, sharding.replicated(mesh))
    found = {}
    for name, cache in CACHES.items():
        sampler = sd.Sampler(MODEL, steps=10, method="ddim", guidance=2.0, cache=cache)
        one, all_of_them = sampler(params, keys, labels), sampler(everywhere, split, labels)
        found[name] = {
            "devices": len(all_of_them.sharding.device_set),
            "off": float(np.max(np.abs(one - np.asarray(all_of_them))) / np.max(np.abs(one))),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
