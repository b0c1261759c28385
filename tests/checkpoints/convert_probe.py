"""Converts a file and prints by how much the peak memory of the process grew.

usage: python -m tests.checkpoints.convert_probe SOURCE TARGET [DTYPE]
"""

import json
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from skipdit_jax import registry
from skipdit_jax.checkpoints import config_fields
from skipdit_jax.checkpoints.conversion import choose_layout, plan_conversion
from skipdit_jax.weights import open_known
from tests.checkpoints.memory_probe import field, forget_peak


def main(source, target, dtype="float32"):
    checkpoint = open_known(source)
    config = config_fields(checkpoint, num_heads=4)
    expected = registry.abstract_params(registry.build("dit", config))
    layout = choose_layout(checkpoint, target)
    conversion = plan_conversion(checkpoint, expected, config, layout, np.dtype(jnp.dtype(dtype)))
    forget_peak()
    before = field("VmRSS")
    conversion.write(target)
    sizes = [spec.nbytes for spec in conversion.tensors.values()]
    found = [row.found for row in conversion.rows if row.found is not None]
    result = {
        "growth": field("VmHWM") - before,
        "written": sum(sizes),
        "largest": max(int(np.prod(h.shape)) * h.dtype.itemsize for h in found),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
