"""jax_enable_x64 changes no number: every draw and every table states its type."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.training.state import create_state
from tests.networks import random_params
from tests.training import toy

GUIDED = {"steps": 2, "guidance": 4.0, "eta": 0.5, "method": "ddim"}
WAYS = {
    "ddpm": {"steps": 2},
    "guided and cached ddim": {**GUIDED, "cache": sd.BlockCache(every=2, front=0, back=0)},
    "two values of half a batch": {
        **GUIDED,
        "cache": sd.FasterCache(variant="diffusers", guidance_window=(-1, 1001)),
    },
}


def both(compute):
    """What it gives without the mode and in it."""
    usual = compute()
    with jax.enable_x64(True):
        return usual, compute()


@pytest.mark.parametrize("way", WAYS)
def test_samples_are_equal(way):
    model = sd.create_model(
        "DiT-S/2", depth=1, hidden_size=8, num_heads=1, input_size=2, num_classes=5
    )
    params = random_params(model)
    usual, wide = both(lambda: sd.sample(model, params, jax.random.key(3), [1, 2], **WAYS[way]))
    assert usual.dtype == wide.dtype == jnp.float32
    np.testing.assert_array_equal(usual, wide)


@pytest.mark.slow
def test_initial_weights_are_equal():
    model = sd.create_model("DiT-S/2-skip", depth=2, hidden_size=8, num_heads=1, input_size=2)
    usual, wide = both(lambda: sd.init_params(model, jax.random.key(3)))
    jax.tree.map(np.testing.assert_array_equal, usual, wide)


def test_the_loss_of_a_training_step_is_equal():
    """The draws are; the learning rate of optax is rounded once less, as it is in that mode."""

    def step():
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), toy.params())
        optimizer, step = toy.make()
        state = create_state(params, optimizer, jax.random.key(0))
        images = np.random.default_rng(0).uniform(-1, 1, (4, 2, 2, 1)).astype(np.float32)
        return step(state, {"image": images, "label": np.array([0, 1, 2, 0], np.int32)})

    (usual, usual_metrics), (wide, wide_metrics) = both(step)
    assert usual_metrics.loss.dtype == wide_metrics.loss.dtype == jnp.float32
    assert float(usual_metrics.loss) == float(wide_metrics.loss)
    for a, b in zip(jax.tree.leaves(usual.params), jax.tree.leaves(wide.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
