"""A tiny run on any mesh: the helper of the scripts in this folder, which run as processes."""

import functools

import jax
import numpy as np

import skipdit_jax as sd
from skipdit_jax import sharding
from skipdit_jax.registry import default_diffusion, sharding_rules
from skipdit_jax.training.optimizer import OptimizerConfig, make_optimizer
from skipdit_jax.training.state import create_state
from skipdit_jax.training.step import make_train_step

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")

BATCH, CLASSES = 16, 10
MODEL = sd.create_model(
    "DiT-S/2-skip", depth=2, hidden_size=64, num_heads=4, input_size=8, num_classes=CLASSES
)


@functools.cache
def first_params():
    """Drawn once: that takes longer than a step."""
    return jax.device_get(sd.init_params(MODEL, jax.random.key(0)))


class Run:
    """A state on a mesh and the jitted step that keeps it where it is."""

    def __init__(self, mesh):
        self.mesh = mesh
        params = first_params()
        optimizer = make_optimizer(OptimizerConfig(lr=1e-3, clip_norm=1.0, steps=100), params)
        state = create_state(params, optimizer, jax.random.key(1), (0.9,))
        self.where = sharding.shardings(mesh, state, sharding_rules(MODEL))
        self.state = sharding.place(state, self.where)
        self.step = make_train_step(
            lambda params, x, t, y: MODEL.apply({"params": params}, x, t, y),
            default_diffusion(MODEL),
            optimizer,
            MODEL.conditioning,
            out_shardings=(self.where, sharding.replicated(mesh)),
        )

    def train(self, first, last):
        """Losses of steps first..last-1; every process feeds its own rows."""
        rows = sharding.local_rows(self.mesh, BATCH)
        losses = []
        for index in range(first, last):
            local = {name: leaf[rows] for name, leaf in batch(index).items()}
            self.state, metrics = self.step(self.state, sharding.global_batch(self.mesh, local))
            losses.append(float(metrics.loss))
        return losses


def batch(index):
    """The global batch of one step, the same in every process."""
    rng = np.random.default_rng(index)
    image = rng.uniform(-1, 1, (BATCH, *MODEL.config.sample_shape)).astype(np.float32)
    return {"image": image, "label": rng.integers(0, CLASSES, BATCH).astype(np.int32)}
