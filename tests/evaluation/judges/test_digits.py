"""The judge of digits: it knows real ones, and is what scikit-learn fitted."""

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier

from skipdit_jax.data.digits import Digits, load_digits
from skipdit_jax.evaluation.distances import frechet_of_features
from skipdit_jax.evaluation.judges.digits import fit_digit_classifier


@pytest.fixture(scope="module")
def judge():
    return fit_digit_classifier()


@pytest.fixture(scope="module")
def real():
    return load_digits("test")


@pytest.fixture(scope="module")
def few():
    digits = load_digits("train")
    return Digits(digits.images[:60], digits.labels[:60])


def test_knows_real_digits_it_has_not_seen(judge, real):
    assert judge.accuracy(real.images, real.labels) >= 0.97
    assert judge.accuracy(real.images, (real.labels + 1) % 10) <= 0.03


def test_does_not_read_digits_into_noise(judge):
    noise = np.random.default_rng(0).uniform(-1, 1, (1000, 8, 8, 1))
    labels = np.repeat(np.arange(10), 100)
    assert 0.05 < judge.accuracy(noise, labels) < 0.15


def test_distance_tells_real_from_damaged(judge, real):
    rng = np.random.default_rng(1)
    reference = judge.features(real.images)
    train = frechet_of_features(judge.features(load_digits("train").images), reference)
    damaged = [
        frechet_of_features(
            judge.features(real.images + scale * rng.normal(size=real.images.shape)), reference
        )
        for scale in (0.1, 0.3, 1.0)
    ]
    one_digit = judge.features(real.images[real.labels == 3])
    assert damaged == sorted(damaged)
    assert 0 < train < damaged[1] < frechet_of_features(one_digit, reference)


def test_is_the_network_that_was_fitted(judge, real):
    network = MLPClassifier((128, 32))
    network.coefs_, network.intercepts_ = list(judge.weights), list(judge.biases)
    network.n_layers_, network.out_activation_ = len(judge.weights) + 1, "softmax"
    rows = real.images.reshape(-1, 64).astype(np.float64)
    want = np.argmax(network._forward_pass_fast(rows, check_input=False), axis=1)
    np.testing.assert_array_equal(judge.predict(real.images), want)
    features = judge.features(real.images)
    assert features.shape == (355, 32)
    assert features.dtype == np.float64
    assert np.all(features >= 0)


def test_same_seed_same_judge(few):
    first, again = (fit_digit_classifier(few, seed=3, epochs=2) for _ in range(2))
    other = fit_digit_classifier(few, seed=4, epochs=2)
    np.testing.assert_array_equal(first.features(few.images), again.features(few.images))
    assert not np.array_equal(first.features(few.images), other.features(few.images))


def test_ink_beyond_black_and_white_is_clipped(judge, real):
    beyond = np.where(np.abs(real.images) == 1, 3 * real.images, real.images)
    np.testing.assert_array_equal(judge.features(beyond), judge.features(real.images))


def test_refusals(judge):
    with pytest.raises(ValueError, match=r"found shape \(2, 16, 16, 1\), wanted \[N,8,8,1\]"):
        judge.predict(np.zeros((2, 16, 16, 1)))
    with pytest.raises(ValueError, match="NaN or infinite"):
        judge.predict(np.full((2, 8, 8, 1), np.nan))
