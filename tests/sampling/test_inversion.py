"""Pictures to noise and back: the two directions of DDIM follow the same curve."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.registry import BUNDLED, DIGITS
from tests.networks import random_params

LABELS = list(range(10))


@pytest.fixture(scope="module")
def digits():
    """(model, weights, ten digits that it has drawn)."""
    model, params = sd.load_checkpoint(BUNDLED[DIGITS].weights)
    drawn = sd.sample(model, params, jax.random.key(0), LABELS, steps=100, method="ddim")
    return model, params, drawn


@pytest.fixture(scope="module")
def there_and_back(digits):
    """Of a number of steps, (noise, pictures): several tests look at the same."""
    model, params, drawn = digits

    @functools.cache
    def both(steps):
        noise = sd.invert(model, params, drawn, LABELS, steps=steps)
        key = jax.random.key(9)
        back = sd.sample(model, params, key, LABELS, x=noise, steps=steps, method="ddim")
        return np.asarray(noise), np.asarray(back)

    return both


def error(digits, back):
    return float(np.sqrt(np.mean(np.square(np.asarray(digits[2]) - back))))


def test_the_way_back_converges_at_first_order(digits, there_and_back):
    """Both directions are first-order steps along one curve."""
    errors = [error(digits, there_and_back(steps)[1]) for steps in (25, 50, 100)]
    assert errors[2] < 0.03, "of a range of 2"
    assert 1.7 < errors[0] / errors[1] < 2.3
    assert 1.7 < errors[1] / errors[2] < 2.3


def test_what_is_found_is_noise(digits, there_and_back):
    """Unlike the pictures, without neighbours that look alike."""

    def alike(pictures):
        left, right = pictures[:, :, :-1].ravel(), pictures[:, :, 1:].ravel()
        return abs(np.corrcoef(left, right)[0, 1])

    noise, _ = there_and_back(50)
    assert alike(noise) < 0.1 < 0.3 < alike(np.asarray(digits[2]))


def test_another_class_makes_another_picture_of_the_noise(digits, there_and_back):
    model, params, _ = digits
    noise, back = there_and_back(50)
    others = LABELS[1:] + LABELS[:1]
    other = sd.sample(model, params, jax.random.key(9), others, x=noise, steps=50, method="ddim")
    assert error(digits, np.asarray(other)) > 10 * error(digits, back)


SMALL = {"depth": 2, "hidden_size": 16, "num_heads": 2, "input_size": 4, "num_classes": 3}


def test_shapes_and_steps_are_checked():
    model = sd.create_model("DiT-S/2-skip", **SMALL)
    params = random_params(model)
    with pytest.raises(ValueError, match=r"x: found shape \(1, 4, 4, 3\), wanted \(1, 4, 4, 4\)"):
        sd.invert(model, params, jnp.zeros((1, 4, 4, 3)), [1], steps=4)
    with pytest.raises(ValueError, match="invert: found 1 step, wanted 2 or more"):
        sd.invert(model, params, jnp.zeros((1, 4, 4, 4)), [1], steps=1)
    wrong = {"x": jnp.zeros((1, 4, 5, 4)), "steps": 2}
    with pytest.raises(ValueError, match=r"x: found shape \(1, 4, 5, 4\), wanted \(1, 4, 4, 4\)"):
        sd.sample(model, params, jax.random.key(0), [1], **wrong)


def test_given_noise_takes_the_place_of_the_drawn_one():
    """The noise of the key itself, handed in, gives the same samples bit for bit."""
    from skipdit_jax.pipeline.program import split_and_draw

    model = sd.create_model("DiT-S/2-skip", **SMALL)
    params, keys = random_params(model), sd.pipeline.sample_keys(jax.random.key(5), 0, 2)
    sampler = sd.Sampler(model, steps=4, clip=True)
    noise, _ = split_and_draw(keys, model.sample_shape)
    given = sampler(params, keys, [0, 1], x=noise)
    assert np.array_equal(given, sampler(params, keys, [0, 1]))
    assert not np.array_equal(given, sampler(params, keys, [0, 1], x=-noise))
