"""A network of a few numbers, so that tests of training compile in a moment."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from skipdit_jax.data.loader import ArraySource, make_batches
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.models.conditions import ClassConditioning
from skipdit_jax.training.optimizer import OptimizerConfig, make_optimizer, trainable_mask
from skipdit_jax.training.state import create_state
from skipdit_jax.training.step import make_train_step

CLASSES, SIDE, BATCH, DROPOUT = 3, 2, 4, 0.5
DIFFUSION = Diffusion(schedule="squaredcos_cap_v2", num_timesteps=20)


def params():
    return {
        "body": {"kernel": jnp.eye(2)[:1] + 0.1, "bias": jnp.zeros(2)},
        "skip": {
            "scale": jnp.array([0.5, -0.25]),
            "table": jnp.linspace(-1, 1, CLASSES + 1)[:, None],
        },
    }


def apply(params, x, t, y):
    shift = params["skip"]["table"][y][:, None, None] + 1e-2 * t[:, None, None, None]
    body = (
        jnp.matmul(x + shift, params["body"]["kernel"]) + params["body"]["bias"][None, None, None]
    )
    return jnp.tanh(body) * params["skip"]["scale"][None, None, None]


def source(count=10, seed=0):
    images = np.random.default_rng(seed).uniform(-1, 1, (count, SIDE, SIDE, 1)).astype(np.float32)
    return ArraySource(images, np.arange(count, dtype=np.int32) % CLASSES)


def batches(seed=0):
    return make_batches(source(), batch_size=BATCH, seed=seed)


def make(accumulate=1, **options):
    """(optimizer, jitted step)."""
    config = OptimizerConfig(**{"lr": 1e-2, "steps": 100, **options})
    optimizer = make_optimizer(config, params())
    mask = trainable_mask(params(), config.trainable) if config.trainable else None
    step = make_train_step(
        apply,
        DIFFUSION,
        optimizer,
        ClassConditioning(CLASSES, DROPOUT),
        mask=mask,
        accumulate=accumulate,
        skip_above=config.skip_above,
    )
    return optimizer, step


made = functools.cache(make)


def training(decays=(0.9,), **options):
    """(state, jitted step) of a fresh run; steps of equal options share their compiled program."""
    optimizer, step = made(**options)
    return create_state(params(), optimizer, jax.random.key(0), decays), step


def assert_equal(got, want):
    """Bit for bit, also keys."""

    def numbers(leaf):
        typed = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if typed else leaf)

    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(numbers(a), numbers(b)), got, want)
