"""Run as a process with two virtual devices: prints what test_vae.py looks at, as JSON."""

import json
import sys

import jax
import numpy as np

from skipdit_jax.encoders.pixels import DecodeOptions, decode_latents
from skipdit_jax.sharding import MeshConfig, batch_sharding, make_mesh, replicated
from tests.encoders.tiny import latents, make
from tests.parity.goldens import deviation

MESSAGES = ("all-gather", "all-reduce", "all-to-all", "collective-permute")


def main():
    vae, params = make("vae")
    z = latents(4, 4, 4, 4)
    whole = np.asarray(decode_latents(vae, params, z))
    mesh = make_mesh(MeshConfig())
    z, params = jax.device_put(z, batch_sharding(mesh)), jax.device_put(params, replicated(mesh))
    found = {}
    for rows in (None, len(jax.devices())):
        program = decode_latents.lower(vae, params, z, DecodeOptions(rows=rows)).compile()
        out = program(params, z)
        found[str(rows)] = {
            "deviation": deviation(out, whole),
            "rows": [len(shard.data) for shard in out.addressable_shards],
            "messages": [word for word in MESSAGES if word in program.as_text()],
        }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
