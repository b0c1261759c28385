"""What depends on timestep and condition alone may be made for all steps before the first."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.caching.plan import Kinds, Run
from skipdit_jax.models.stack import bind
from skipdit_jax.sampling.denoiser import make_denoiser
from tests.networks import random_params

SMALL = {"hidden_size": 16, "num_heads": 2, "input_size": 4, "depth": 4, "num_classes": 5}
TIMES = np.array([900.0, 500.0, 100.0], np.float32)
BATCH = 2
SCALE = 3.0


@pytest.fixture(scope="module", params=["DiT-S/2-skip", "Latte-S/2"])
def network(request):
    model = sd.create_model(request.param, **SMALL)
    return model, random_params(model)


def run_of(model):
    names = tuple(name for name, _ in model.costs.sublayers)
    return Run(TIMES.astype(int), model.num_stages, model.num_skips, names, guided=True)


def denoiser_of(network, cache, labels):
    model, params = network
    sockets = cache.plan(run_of(model)).sockets
    x = jax.random.normal(jax.random.key(0), (BATCH, *model.sample_shape))
    null = model.conditioning.null(labels)
    return x, make_denoiser(bind(model, params), x, labels, null, None, sockets)


@pytest.mark.parametrize(
    ("cache", "kinds"),
    [
        (sd.Fora(every=2), Kinds(sub=1)),
        (sd.FasterCache(guidance=True, attention=True), Kinds(sub=1, guide=1)),
        (sd.FasterCache(guidance=True, attention=True), Kinds(sub=1, guide=0)),
    ],
    ids=["both halves", "both under a guide", "the condition alone"],
)
def test_a_call_is_the_same_with_what_was_prepared(network, cache, kinds):
    labels = jnp.array([1, 3], jnp.int32)
    rows = jax.tree.map(lambda a: a[0], cache.plan(run_of(network[0])).rows)

    @jax.jit
    def outputs(times):
        x, denoiser = denoiser_of(network, cache, labels)
        ready = denoiser.prepare(times)
        assert all(leaf.shape[:2] == (len(TIMES), 2 * BATCH) for leaf in jax.tree.leaves(ready))
        found = []
        for step, t in enumerate(times):
            own = jax.tree.map(lambda a: a[step], ready)  # noqa: B023
            for given in (own, None):
                args = (jnp.float32(SCALE), denoiser.state, kinds, rows, given)
                found.append(denoiser.call(x, t, *args)[0])
        return found

    found = outputs(TIMES)
    for with_it, without in zip(found[::2], found[1::2], strict=True):
        np.testing.assert_allclose(with_it, without, rtol=0, atol=2e-5 * np.abs(without).max())
    assert np.abs(found[0] - found[2]).max() > 1e-2  # other timesteps modulate otherwise


def test_nothing_is_prepared_that_is_larger_than_the_weights_or_spares_nothing(network):
    labels = jnp.array([1, 3], jnp.int32)
    _, denoiser = denoiser_of(network, sd.Fora(every=2), labels)
    rows = 2 * BATCH
    assert denoiser.prepare(jnp.zeros(SMALL["hidden_size"] // rows)) is not None
    assert denoiser.prepare(jnp.zeros(SMALL["hidden_size"] // rows + 1)) is None
    _, denoiser = denoiser_of(network, sd.FasterCache(attention=False, guidance=True), labels)
    assert denoiser.prepare(jnp.asarray(TIMES)) is None
