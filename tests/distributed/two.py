"""One of two processes (address, number, folder): prints its losses and what it holds, as JSON."""

import json
import sys
from pathlib import Path

import jax

from skipdit_jax import sharding
from skipdit_jax.checkpoints import store
from skipdit_jax.cli.distributed import Cluster, initialize, is_main, say, wait_for_all
from skipdit_jax.registry import sharding_rules
from skipdit_jax.sharding import MeshConfig, make_mesh
from skipdit_jax.training.state import from_items, to_items

STEPS, HALF = 10, 5


def main():
    address, process, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    cluster = Cluster(coordinator=address, num_processes=2, process_id=process)
    initialize(cluster)
    initialize(cluster)  # a second time is nothing

    from tests.distributed.tiny import BATCH, MODEL, Run  # makes a model: after the processes met

    run = Run(make_mesh(MeshConfig(fsdp=2)))  # the weights are split across the processes
    found = {
        "main": is_main(),
        "devices": [jax.device_count(), jax.local_device_count()],
        "rows": sharding.local_rows(run.mesh, BATCH).tolist(),
        "losses": run.train(0, HALF),
    }
    with store.Store(folder) as checkpoints:
        checkpoints.save(HALF, to_items(run.state), {})
    found["losses"] += run.train(HALF, STEPS)
    shapes = jax.eval_shape(to_items, run.state)
    items = store.restore(folder, sharding.abstract(run.mesh, shapes, sharding_rules(MODEL))).items
    run.state = from_items(items, like=run.state.key)
    found["again"] = run.train(HALF, STEPS)
    wait_for_all("end")
    say("only process 0 says this")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
