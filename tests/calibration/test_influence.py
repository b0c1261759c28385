"""Effects are what happens: a run that reuses a few steps moves its result by as much."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.caching.method import Method
from skipdit_jax.caching.plan import Span
from skipdit_jax.caching.planning import reuse_spans
from skipdit_jax.calibration.influence import measure_effects, signs
from skipdit_jax.pipeline import sample_keys
from tests.networks import random_params

STEPS, LAGS, SAMPLES = 40, 3, 3
GAPS = ((10, 1), (25, 2), (36, 3))  # computed step, steps behind it that reuse what it made
FIRST_ORDER = 0.2  # what is left out, relative: values of random weights move fast
TINY = {"depth": 4, "hidden_size": 16, "num_heads": 2, "input_size": 4, "num_classes": 3}


@dataclass(frozen=True, kw_only=True)
class Listed(Method):
    """Reuses a span at the steps of a list."""

    title: ClassVar[str] = "listed"

    span: Span
    reused: tuple[bool, ...]

    def plan(self, run):
        return reuse_spans(run, np.where(self.reused, 0, 1), (self.span,))


def reusing(first, gap):
    """For each step whether it is one of those behind a computed one."""
    return tuple(first < step <= first + gap for step in range(STEPS))


@pytest.mark.parametrize(
    ("name", "residual", "settings"),
    [
        ("DiT-S/2-skip", False, {"method": "ddim", "guidance": 3.0}),
        ("DiT-S/2-skip", False, {"method": "ddpm"}),
        ("DiT-S/2", True, {"method": "ddim"}),
    ],
)
def test_reused_steps_move_the_result_by_their_effects(name, residual, settings):
    model = sd.create_model(name, **TINY)
    params, keys = random_params(model), sample_keys(jax.random.key(0), 0, SAMPLES)
    given = params, keys, np.arange(SAMPLES, dtype=np.int32)
    uncached = sd.Sampler(model, steps=STEPS, cache="none", **settings)
    result = uncached(*given)
    direction, span = signs(0, result.shape), Span(1, 3, residual=residual)
    (found,) = measure_effects(uncached, *given, spans=[span], lags=LAGS, seed=0)
    assert found.shape == (STEPS, LAGS, SAMPLES)
    told, moved = [], []
    for first, gap in GAPS:
        cache = Listed(span=span, reused=reusing(first, gap))
        cached = sd.Sampler(model, steps=STEPS, cache=cache, **settings)(*given)
        moved.append((direction * (cached - result)).sum(axis=(1, 2, 3)))
        told.append(found[first, :gap].sum(axis=0))
    away = np.linalg.norm(np.subtract(told, moved), axis=1)
    assert (away < FIRST_ORDER * np.linalg.norm(moved, axis=1)).all()
    assert not found[-1].any()
    assert not found[-2, 1:].any()


def test_several_spans_are_each_as_if_it_were_alone():
    model = sd.create_model("DiT-S/2-skip", **{**TINY, "depth": 6})
    given = random_params(model), sample_keys(jax.random.key(0), 0, SAMPLES), np.arange(SAMPLES)
    uncached = sd.Sampler(model, steps=8, cache="none", method="ddim")
    spans = [Span(2, 4), Span(1, 5), Span(1, 4, residual=True), Span(3, 4)]
    together = measure_effects(uncached, *given, spans=spans, lags=LAGS)
    for span, found in zip(spans, together, strict=True):
        (alone,) = measure_effects(uncached, *given, spans=[span], lags=LAGS)
        np.testing.assert_allclose(found, alone, rtol=1e-3, atol=1e-6 * np.abs(alone).max())


def test_a_cached_sampler_is_refused():
    model = sd.create_model("DiT-S/2-skip", **TINY)
    keys = sample_keys(jax.random.key(0), 0, 1)
    with pytest.raises(ValueError, match="found a sampler with a cache"):
        measure_effects(sd.Sampler(model, cache="N2"), {}, keys, spans=[Span(1, 3)], lags=1)
