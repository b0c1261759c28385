"""Run as a process with 8 virtual devices: prints what test_meshes.py looks at, as JSON."""

import json
import sys
from pathlib import Path

import jax
import numpy as np

from skipdit_jax import sharding
from skipdit_jax.checkpoints import store
from skipdit_jax.registry import sharding_rules
from skipdit_jax.sharding import MeshConfig, make_mesh
from skipdit_jax.training.state import from_items, to_items
from tests.distributed.tiny import MODEL, Run

STEPS, HALF = 10, 5
SAVED = "data x fsdp"
MESHES = {
    "data": MeshConfig(),
    "fsdp": MeshConfig(data=1, fsdp=-1),
    SAVED: MeshConfig(fsdp=4),
    "data x fsdp x tensor": MeshConfig(data=2, fsdp=2, tensor=2),
}


def bytes_on_first_device(tree):
    device = jax.devices()[0]
    return sum(
        shard.data.nbytes
        for leaf in jax.tree.leaves(tree)
        for shard in leaf.addressable_shards
        if shard.device == device
    )


def trained(run, halfway):
    """Trains and looks at the state; calls halfway() after half of the steps."""
    losses = run.train(0, HALF)
    halfway()
    losses += run.train(HALF, STEPS)
    stays = jax.tree.map(
        lambda leaf, at: leaf.sharding.is_equivalent_to(at, leaf.ndim), run.state, run.where
    )
    return {
        "losses": losses,
        "stays": all(jax.tree.leaves(stays)),
        "bytes": bytes_on_first_device(run.state.params),
    }


def continued(folder, run, saved):
    """The second half of a run from a checkpoint, on whatever mesh `run` has."""
    shapes = jax.eval_shape(to_items, run.state)
    wanted = sharding.abstract(run.mesh, shapes, sharding_rules(MODEL))
    items = store.restore(folder, wanted).items
    same = jax.tree.map(np.array_equal, jax.device_get(items["params"]), saved)
    run.state = from_items(items, like=run.state.key)
    return {"same": all(jax.tree.leaves(same)), "losses": run.train(HALF, STEPS)}


def main():
    assert jax.device_count() == 8
    folder, saved = Path(sys.argv[1]), {}
    runs = {name: Run(make_mesh(config)) for name, config in MESHES.items()}
    for devices in (1, 2):
        runs[str(devices)] = Run(make_mesh(MeshConfig(fsdp=devices), jax.devices()[:devices]))

    def save():
        with store.Store(folder) as checkpoints:
            checkpoints.save(HALF, to_items(runs[SAVED].state), {})
        saved.update(jax.device_get(runs[SAVED].state.params))

    found = {
        name: trained(run, save if name == SAVED else lambda: None)
        for name, run in runs.items()
        if name != "2"
    }
    found["continued"] = {name: continued(folder, runs[name], saved) for name in ("1", "2")}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
