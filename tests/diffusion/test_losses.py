import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skipdit_jax.diffusion.gaussian import q_sample, take, training_target
from skipdit_jax.diffusion.losses import training_losses
from skipdit_jax.diffusion.schedules import Diffusion

T = jnp.array([0, 1, 20, 49])
SHAPE = (4, 3, 3, 2)
OBJECTIVES = ("mse", "rescaled_mse", "kl")


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def losses_at(diffusion, model_output, objective="mse", scale=0.5, t=T):
    x0 = jnp.clip(scale * draw(0, *SHAPE), -1, 1)
    noise = draw(1, *SHAPE)
    c = take(diffusion.coefficients(), t, x0.ndim)
    xt = q_sample(c, x0, noise)
    if model_output is None:
        model_output = training_target(diffusion, c, x0, noise)
        if diffusion.learns_variance:
            lower = jnp.full_like(model_output, -1.0)
            model_output = jnp.concatenate([model_output, lower], axis=-1)
    return training_losses(diffusion, c, t, model_output, x0, xt, noise, objective)


def output(scale=1.0, channels=4):
    return scale * draw(2, *SHAPE[:-1], channels)


@pytest.mark.parametrize("prediction", ["epsilon", "xstart", "v"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_perfect_network_loses_only_the_decoder_bits(prediction, objective):
    losses = losses_at(Diffusion(spacing="50", prediction=prediction), None, objective)
    np.testing.assert_array_equal(losses.mse, 0)
    np.testing.assert_allclose(losses.vb[1:], 0, atol=3e-5)
    np.testing.assert_allclose(losses.loss[1:], 0, atol=3e-5)
    assert losses.vb[0] > 0


def test_mse_is_the_mean_over_prediction_channels():
    losses = losses_at(Diffusion(spacing="50"), jnp.zeros((*SHAPE[:-1], 4)))
    noise = np.asarray(draw(1, *SHAPE), np.float64)
    np.testing.assert_allclose(losses.mse, (noise**2).mean(axis=(1, 2, 3)), rtol=1e-6)


def test_objectives_weigh_the_same_two_terms():
    diffusion = Diffusion(spacing="50")
    mse, rescaled, kl = (losses_at(diffusion, output(), o) for o in OBJECTIVES)
    np.testing.assert_allclose(mse.loss, mse.mse + mse.vb, rtol=1e-6)
    np.testing.assert_allclose(rescaled.loss, mse.mse + 0.001 * 50 * mse.vb, rtol=1e-6)
    np.testing.assert_allclose(kl.loss, 50 * mse.vb, rtol=1e-6)


def test_the_bound_trains_the_variance_only():
    diffusion = Diffusion(spacing="50")

    def gradient(objective):
        def vb(model_output):
            return losses_at(diffusion, model_output, objective).vb.sum()

        return jnp.split(jax.grad(vb)(output()), 2, axis=-1)

    prediction, variance = gradient("mse")
    np.testing.assert_array_equal(prediction, 0)
    assert (jnp.abs(variance).max(axis=(1, 2, 3)) > 0).all()
    prediction, variance = gradient("kl")
    assert (jnp.abs(prediction).max(axis=(1, 2, 3)) > 0).all()
    assert (jnp.abs(variance).max(axis=(1, 2, 3)) > 0).all()


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_fixed_variance_has_no_bound_in_the_loss(variance):
    losses = losses_at(Diffusion(spacing="50", variance=variance), output(channels=2))
    np.testing.assert_array_equal(losses.vb, 0)
    np.testing.assert_array_equal(losses.loss, losses.mse)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("prediction", ["epsilon", "xstart", "v"])
def test_gradients_stay_finite_for_wild_outputs_and_saturated_data(objective, prediction):
    diffusion = Diffusion(prediction=prediction)
    for size in (1e-6, 1.0, 30.0):
        both = jnp.concatenate([output(size, 2), jnp.clip(output(size, 2), -5, 5)], axis=-1)
        t = jnp.array([0, 0, 1, 999])
        value, gradient = jax.value_and_grad(
            lambda o, t=t: losses_at(diffusion, o, objective, scale=10.0, t=t).loss.sum()
        )(both)
        assert jnp.isfinite(value)
        assert jnp.isfinite(gradient).all()


def test_an_unknown_objective_is_refused():
    with pytest.raises(ValueError, match="objective: found 'l1', wanted one of mse, rescaled_mse"):
        losses_at(Diffusion(), output(), "l1")
