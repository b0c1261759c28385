"""Prints features that 8 virtual devices make together, and how they were shared."""

import json

import jax
import numpy as np

from skipdit_jax.evaluation.gathering import gather
from skipdit_jax.evaluation.sets import HeldSet
from tests.evaluation import edges


def main():
    assert jax.device_count() == 8
    shared = []

    class Watched(edges.Counting):
        def __init__(self, batch):
            super().__init__(batch=batch)
            program = self._program

            def run(params, rows):
                shared.append(sorted({shard.data.shape[0] for shard in rows.addressable_shards}))
                return program(params, rows)

            self._program = run

    samples = HeldSet("samples", edges.pictures(21))
    made = [Watched(batch) for batch in (3, 16)]
    found = [gather(samples, extractor) for extractor in made]
    told = [{name: np.asarray(rows).tolist() for name, rows in one.items()} for one in found]
    batches = [extractor.batch for extractor in made]
    print(json.dumps({"features": told, "batches": batches, "shared": shared}))


if __name__ == "__main__":
    main()
