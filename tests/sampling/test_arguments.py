"""What sample, Sampler and invert refuse, in one line that names it, and what they take."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.caching.plan import Kinds, Plan, Sockets, Span, Trunk
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.sampling import arguments
from skipdit_jax.sampling.steppers import Ddim
from tests.networks import apply, random_params

TINY = {"hidden_size": 8, "num_heads": 1, "input_size": 2}
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def classes():
    return sd.create_model("DiT-S/2-skip", depth=4, num_classes=4, **TINY)


@dataclass(frozen=True)
class Short:
    """A policy whose plan has a step too few, or kinds of another type."""

    dtype: type = bool
    title: ClassVar[str] = "short"

    def resolved(self, published):
        return self

    def plan(self, run):
        steps = run.steps - (self.dtype is bool)
        sockets = Sockets(trunk=Trunk((Span(1, 3),)))
        return Plan(sockets, Kinds(trunk=np.ones(steps, self.dtype)))


REFUSED = {
    "labels, another number": ({"labels": [1], "num_samples": 3}, "num_samples: found 3 beside 1"),
    "none": ({"num_samples": 0}, "num_samples: found 0, wanted"),
    "fewer": ({"num_samples": -1}, "num_samples: found -1, wanted"),
    "a bare label": ({"labels": 1}, "labels: found 1, wanted a list"),
    "a bare label of numpy": ({"labels": np.int64(1)}, "labels: found .*1.*, wanted a list"),
    "text": ({"labels": "12"}, "labels: found '12', wanted a list"),
    "no label": ({"labels": []}, "labels: found an empty list"),
    "half labels": ({"labels": [0.5]}, "labels: found .0.5., wanted 1 whole numbers"),
    "NaN": ({"labels": [1], "guidance": np.nan}, "guidance: scale is nan"),
    "no policy": ({"labels": [1], "cache": "N3x"}, "cache 'N3x': wanted N-start-stop"),
    "a short plan": ({"labels": [1], "cache": Short()}, r"cache plan: found bool of shape \(1,\)"),
    "a plan of numbers": ({"labels": [1], "cache": Short(int)}, "cache plan: found int64 of shape"),
    "x": ({"labels": [1], "x": np.zeros((1, 2, 3, 4))}, r"x: found shape \(1, 2, 3, 4\), wanted"),
    "method": ({"labels": [1], "method": "heun"}, "method is 'heun', wanted one of ddpm, ddim"),
    "noise of ddpm": ({"labels": [1], "eta": 0.5}, "eta: found 0.5, but it is the noise of ddim"),
    "NaN noise": ({"labels": [1], "method": "ddim", "eta": np.nan}, "eta: found nan"),
    "two steppers": ({"labels": [1], "stepper": Ddim(), "clip": True}, "stepper: has its own"),
}


@pytest.mark.parametrize(("given", "words"), REFUSED.values(), ids=REFUSED)
def test_one_line_that_names_it(classes, given, words):
    with pytest.raises(ValueError, match=words) as caught:
        sd.sample(classes, {}, KEY, **{"steps": 2, **given})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: arguments.as_key(0), "key: found 0, wanted jax.random.key"),
        (lambda: arguments.as_key(None), "key: found None, wanted"),
        (lambda: arguments.as_key(jax.random.split(KEY)), r"key: found key<fry> of shape \(2,\)"),
        (lambda: arguments.as_keys(KEY), r"keys: found key<fry> of shape \(\), wanted one per"),
        (lambda: arguments.as_keys(jnp.zeros(2)), r"keys: found float32 of shape \(2,\)"),
        (lambda: arguments.as_count(None, True), "num_samples: found True"),
        (lambda: arguments.as_count(None, 2.0), "num_samples: found 2.0"),
        (lambda: arguments.as_policy(3, None), "cache: found 3, wanted a policy"),
        (lambda: arguments.as_policy(sd.SkipCache, None), "cache: found <class"),
        (
            lambda: arguments.as_stepper("ddpm", 0.0, False, Ddim, Diffusion()),
            "stepper: found <class",
        ),
        (lambda: sd.Guidance(interval=(np.nan, 5)), "guidance: interval is .nan, 5."),
    ],
)
def test_types_that_nothing_else_checks(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_notation_is_the_policy_that_it_means(classes):
    def made(cache):
        return sd.Sampler(classes, steps=8, cache=cache)

    for text, policy in {
        "N3": sd.SkipCache(every=3),
        "N2-700-50": sd.SkipCache(every=2, start=700, stop=50),
        "block-cache(every=2)": sd.BlockCache(every=2),
    }.items():
        assert made(text).cache == made(policy).cache
        assert np.array_equal(made(text).plan.reuse, made(policy).plan.reuse)
    assert made("none").plan is None


def test_labels_and_their_number_may_agree(classes):
    assert arguments.as_count([1, 2], 2) == arguments.as_count(np.array([1, 2]), None) == 2
    assert arguments.as_count(None, None) == 1


@pytest.mark.parametrize("cache", ["N3", "block-cache(every=3)", "N2-900-49"])
@pytest.mark.parametrize("length", [100, 500, 4000])
def test_every_process_is_cached_as_the_published_one(classes, cache, length):
    """Start and stop are places in a process of 1000 timesteps: the plan depends on no T."""
    plans = [
        sd.Sampler(classes, steps=50, cache=cache, diffusion=Diffusion(num_timesteps=t)).plan.reuse
        for t in (1000, length)
    ]
    assert (plans[0] == plans[1]).mean() >= 0.98, "one step may lie at a rounded edge"
    assert abs(int(plans[0].sum()) - int(plans[1].sum())) <= 1


def test_published_guidance_is_for_published_latents():
    """Three of the four channels of the published autoencoder; all of any other model."""

    def channels(**fields):
        model = sd.create_model("DiT-S/2", depth=2, num_classes=4, **TINY, **fields)
        return sd.Sampler(model, steps=2, guidance=4.0).guidance.channels

    assert channels() == 3
    assert channels(in_channels=16) is None
    assert channels(in_channels=8) is None
    latte = sd.create_model("Latte-S/2", depth=2, num_classes=4, num_frames=2, **TINY)
    assert sd.Sampler(latte, steps=2, guidance=4.0).guidance.channels is None


@dataclass(frozen=True)
class Halving:
    """A stepper of the user: half of the latents, and the network's output in its state."""

    stochastic: ClassVar[bool] = False

    def initialise(self, x):
        return jnp.zeros_like(x)

    def step(self, kind, c, model_output, x, noise, state):
        return x / 2, model_output[..., : x.shape[-1]]


def test_a_stepper_of_the_user_and_what_every_step_made(classes):
    x = np.random.default_rng(0).standard_normal((2, 2, 2, 4), np.float32)
    params = random_params(classes)
    found, taps = sd.sample(
        classes, params, KEY, [1, 2], x=x, steps=3, stepper=Halving(), taps=True
    )
    np.testing.assert_array_equal(found, x / 8)
    np.testing.assert_array_equal(taps.sample, [x / 2, x / 4, x / 8])
    assert taps.model_output.shape == (3, 2, 2, 2, 8)
    # What the network said is what it says by itself.
    t = Diffusion().respace("3").timesteps[::-1].astype(np.float32)
    alone = apply(classes, params, x / 2, t[[1, 1]], np.int32([1, 2]))
    np.testing.assert_allclose(taps.model_output[1], alone, atol=1e-4)
