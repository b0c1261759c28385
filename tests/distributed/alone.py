"""Ten steps on one device in a process alone: prints the losses as JSON."""

import json

import jax

from skipdit_jax.sharding import MeshConfig, make_mesh
from tests.distributed.tiny import Run


def main():
    assert jax.device_count() == 1
    print(json.dumps(Run(make_mesh(MeshConfig())).train(0, 10)))


if __name__ == "__main__":
    main()
