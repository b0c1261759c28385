import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from skipdit_jax.diffusion.losses import Losses
from skipdit_jax.models.conditions import ClassConditioning, JointLabels
from skipdit_jax.training.draws import TIMESTEP_SAMPLERS, Draws, draw
from skipdit_jax.training.ema import ema_decay_at, update_ema
from skipdit_jax.training.optimizer import OptimizerConfig, make_optimizer
from skipdit_jax.training.state import create_state
from skipdit_jax.training.step import make_update
from tests.training import toy

COUNT = 20_000
SIGMAS = 5  # of a binomial draw; one run in two million fails by chance, and the key is fixed


def many_draws(dropout=0.1, key=0, timesteps="uniform"):
    images, labels = jnp.zeros((COUNT, 1, 1, 1)), jnp.arange(COUNT, dtype=jnp.int32) % toy.CLASSES
    options = {"num_timesteps": 20, "sample_timesteps": TIMESTEP_SAMPLERS[timesteps]}
    conditioning = ClassConditioning(toy.CLASSES, dropout)
    return labels, draw(jax.random.key(key), images, labels, conditioning, **options)


@pytest.mark.parametrize("dropout", [0.1, 0.5])
def test_labels_are_dropped_to_the_null_class_at_the_asked_rate(dropout):
    labels, draws = many_draws(dropout)
    dropped = np.asarray(draws.condition != labels)
    assert (np.asarray(draws.condition)[dropped] == toy.CLASSES).all()
    error = SIGMAS * np.sqrt(dropout * (1 - dropout) / COUNT)
    assert abs(dropped.mean() - dropout) < error


def test_a_clip_and_its_images_lose_their_labels_apart():
    """One draw for the clip, one for all of its images (docs/notes.md, Parts of DiT and Latte)."""
    rate, images = 0.5, 3
    labels = JointLabels(jnp.zeros(COUNT, jnp.int32), jnp.ones((COUNT, images), jnp.int32))
    conditioning = ClassConditioning(toy.CLASSES, rate)
    clips = jnp.zeros((COUNT, 1, 1, 1, 1))
    draws = draw(jax.random.key(0), clips, labels, conditioning, num_timesteps=20)
    video = np.asarray(draws.condition.video) == toy.CLASSES
    each = np.asarray(draws.condition.images) == toy.CLASSES
    assert (each == each[:, :1]).all()
    error = SIGMAS * np.sqrt(rate * (1 - rate) / COUNT)
    for dropped in (video, each[:, 0], video == each[:, 0]):
        assert abs(dropped.mean() - rate) < error


def test_no_dropout_keeps_every_label():
    labels, draws = many_draws(0.0)
    np.testing.assert_array_equal(draws.condition, labels)


@pytest.mark.parametrize("timesteps", TIMESTEP_SAMPLERS)
def test_timesteps_are_uniform_over_all_steps_and_noise_is_normal(timesteps):
    _, draws = many_draws(timesteps=timesteps)
    counts = np.bincount(np.asarray(draws.t), minlength=20)
    assert counts.size == 20
    assert np.abs(counts - COUNT / 20).max() < SIGMAS * np.sqrt(COUNT / 20)
    assert abs(float(draws.noise.mean())) < SIGMAS / np.sqrt(COUNT)
    assert abs(float(draws.noise.var()) - 1) < SIGMAS * np.sqrt(2 / COUNT)


def test_stratified_timesteps_cover_every_part_of_the_range():
    """A batch of B has one step in each B-th of the range, and every step is alike over keys."""
    draws = jax.vmap(lambda key: TIMESTEP_SAMPLERS["stratified"](key, 5, 20))(
        jax.random.split(jax.random.key(0), COUNT)
    )
    assert (np.sort(np.asarray(draws) // 4, axis=1) == np.arange(5)).all()
    for sample in np.asarray(draws).T:
        counts = np.bincount(sample, minlength=20)
        assert np.abs(counts - COUNT / 20).max() < SIGMAS * np.sqrt(COUNT / 20)


def test_parts_of_a_draw_do_not_depend_on_each_other():
    _, draws = many_draws(0.5)
    dropped = np.asarray(draws.condition == toy.CLASSES)
    parts = np.stack([np.asarray(draws.t), np.asarray(draws.noise).ravel(), dropped])
    correlation = np.corrcoef(parts) - np.eye(3)
    assert np.abs(correlation).max() < SIGMAS / np.sqrt(COUNT)


@pytest.mark.parametrize("decay", [0.9999, 0.9, 0.0])
def test_ema_rounds_as_numpy_does_under_jit(decay):
    """Each product is rounded before the sum: a fused multiply-add differs in one of five."""
    random = np.random.default_rng(0)
    mean = random.uniform(1, 2, 1000).astype(np.float32)
    leaf = (mean + 1e-4 * random.standard_normal(1000)).astype(np.float32)
    want = mean * np.float32(decay) + leaf * np.float32(1 - decay)
    got = jax.jit(update_ema, static_argnums=2)({"a": mean}, {"a": leaf}, decay)
    np.testing.assert_array_equal(got["a"], want)


def test_a_step_averages_the_parameters_it_made():
    state, step = toy.training(decays=(0.9, 0.5))
    before = jax.tree.map(np.asarray, state.ema)
    state, _ = step(state, next(toy.batches()))
    for name, decay in (("0.9", 0.9), ("0.5", 0.5)):
        jax.tree.map(
            lambda mean, old, new, d=decay: np.testing.assert_allclose(
                mean, d * old + (1 - d) * np.asarray(new), rtol=1e-6
            ),
            state.ema[name],
            before[name],
            state.params,
        )
    assert int(state.step) == 1


def test_averages_of_bfloat16_parameters_are_float32():
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), toy.params())
    ema = create_state(half, optax.identity(), jax.random.key(0)).ema["0.9999"]
    moved = update_ema(ema, half, 0.9999)
    assert {leaf.dtype for leaf in jax.tree.leaves((ema, moved))} == {jnp.dtype(jnp.float32)}


def test_steps_draw_anew_and_depend_on_the_key_alone():
    losses = []
    for key in (0, 0, 1):
        state, step = toy.training()
        state = state._replace(key=jax.random.key(key))
        batch = next(toy.batches())
        run = []
        for _ in range(3):
            state, metrics = step(state, batch)
            run.append(float(metrics.mse))
        losses.append(run)
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]
    assert len(set(losses[0])) == 3


def test_the_given_state_is_donated_and_nothing_recompiles():
    optimizer, step = toy.make()
    state = create_state(toy.params(), optimizer, jax.random.key(0))
    batches = toy.batches()
    first, _ = step(state, next(batches))
    second, _ = step(first, next(batches))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first.params))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(second.params))
    assert step._cache_size() == 1


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_gradients_are_those_of_the_whole_batch(parts):
    whole, step = toy.training()
    accumulated, step_by_parts = toy.training(accumulate=parts)
    for batch in itertools.islice(toy.batches(), 3):
        whole, metrics = step(whole, batch)
        accumulated, of_parts = step_by_parts(accumulated, batch)
        np.testing.assert_allclose(of_parts[:-1], metrics[:-1], rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), accumulated.params, whole.params
    )


def test_a_batch_that_cannot_be_cut_evenly_is_refused():
    state, step = toy.training(accumulate=3)
    with pytest.raises(ValueError, match="accumulate: 3 parts of a batch of 4"):
        step(state, next(toy.batches()))


def test_a_warming_average_of_a_moving_value_forgets_its_start_sooner():
    """After n updates with constant input, what is left of the start is the product of decays."""
    decays = [float(ema_decay_at(jnp.int32(n), 0.99)) for n in range(2000)]
    assert decays[0] == pytest.approx(0.1)
    assert max(decays) == pytest.approx(0.99)
    assert np.all(np.diff(decays) >= 0)
    assert np.prod(decays[:50]) < 1e-3 < 0.99**50


@pytest.mark.parametrize("decays", [(0.9, 0.9), (1.0,), (-0.1,)])
def test_bad_decays_are_refused(decays):
    with pytest.raises(ValueError, match="ema_decay"):
        toy.training(decays=decays)


def linear_loss(params, images, draws):
    """The gradient is the mean picture."""
    loss = jnp.sum(params["w"] * images.mean(0))
    return loss, Losses(loss, loss, jnp.zeros(()))


@pytest.mark.parametrize(
    ("gradient", "follows"),
    [((3.0, 4.0), True), ((3.0, 4.1), False), ((np.nan, 0.0), False), ((np.inf, 0.0), False)],
)
def test_a_step_of_too_large_a_gradient_moves_nothing(gradient, follows):
    """The limit is 5, the norm of the first."""
    optimizer = make_optimizer(OptimizerConfig(lr=0.1), {"w": jnp.ones(2)})
    update = make_update(linear_loss, optimizer, skip_above=5.0)
    before = create_state({"w": jnp.ones(2)}, optimizer, jax.random.key(0), (0.5,))
    images = jnp.array([gradient])
    draws = Draws(jnp.zeros(1, jnp.int32), images, None)
    after, metrics = update(before, images, draws)
    assert int(after.step) == 1
    assert float(metrics.skipped) == (not follows)
    stays = [np.array_equal(*map(np.asarray, pair)) for pair in _moving(before, after)]
    assert not any(stays) if follows else all(stays)


def _moving(*states):
    return zip(*(jax.tree.leaves((s.params, s.ema, s.opt_state)) for s in states), strict=True)
