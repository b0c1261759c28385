"""Weights from a seed and their names, as the recordings of set e describe them in words.

Every tensor has a generator of its own, [seed, CRC-32 of its name], so that no order matters.
"""

import math
import zlib

import numpy as np

LEAST_VARIANCE = 0.3


def tensor(seed, name, shape):
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    z = rng.standard_normal(shape)
    return (_scaled(name, z, math.prod(shape[1:])) if z.size else z).astype(np.float32)


def _scaled(name, z, fan_in):
    kind = name.rsplit(".", 1)[-1]
    if kind == "running_var":
        return np.maximum(1 + 0.2 * z, LEAST_VARIANCE)
    if kind in ("running_mean", "bias"):
        return 0.1 * z
    if z.ndim == 1:
        return 1 + 0.1 * z
    if name.startswith("lin"):
        return np.abs(z)
    return z * np.sqrt((1 if name.startswith(("fc.", "logits.")) else 2) / fan_in)


def build(seed, shapes):
    return {name: tensor(seed, name, shape) for name, shape in shapes.items()}
