import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skipdit_jax.training.optimizer import (
    OptimizerConfig,
    make_optimizer,
    make_schedule,
    trainable_mask,
)
from skipdit_jax.trees import flatten
from tests.training import toy


def test_rate_rises_to_its_peak_and_falls_to_the_fraction():
    config = OptimizerConfig(
        lr=2.0, schedule="cosine", steps=110, warmup_steps=10, final_fraction=0.1
    )
    rate = np.array([float(make_schedule(config)(step)) for step in range(111)])
    np.testing.assert_allclose(rate[:10], 0.2 * np.arange(1, 11), rtol=1e-6)
    assert rate.argmax() in (9, 10)
    assert (np.diff(rate[10:]) < 0).all()
    np.testing.assert_allclose(rate[60], 2.0 * (0.1 + 0.9 / 2), rtol=1e-5)
    np.testing.assert_allclose(rate[110], 0.2, rtol=1e-5)


def test_a_linear_rate_falls_evenly_after_the_warm_up():
    config = OptimizerConfig(
        lr=2.0, schedule="linear", steps=110, warmup_steps=10, final_fraction=0.5
    )
    rate = np.array([float(make_schedule(config)(step)) for step in range(111)])
    np.testing.assert_allclose(np.diff(rate[10:]), -0.01, rtol=1e-4)
    np.testing.assert_allclose(rate[[10, 110]], (2.0, 1.0), rtol=1e-6)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
def test_a_run_shorter_than_its_warm_up_ends_on_the_way_up(schedule):
    """So that `--config.steps=30` tries out a long run's config."""
    short = OptimizerConfig(lr=2.0, schedule=schedule, steps=30, warmup_steps=200)
    rate = np.array([float(make_schedule(short)(step)) for step in range(30)])
    np.testing.assert_allclose(rate, 0.01 * np.arange(1, 31), rtol=1e-5)


def test_constant_rate_is_the_default_from_the_first_step():
    rate = make_schedule(OptimizerConfig(lr=3e-4, steps=5))
    assert {float(rate(step)) for step in range(5)} == {3e-4}


def test_frozen_parameters_stay_and_take_no_memory():
    everything, _ = toy.training()
    state, step = toy.training(trainable=("^skip/",))
    trained = sum(leaf.size for leaf in jax.tree.leaves(toy.params()["skip"]))
    size = sum(leaf.size for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim)
    assert size == 2 * trained
    assert sum(leaf.size for leaf in jax.tree.leaves(everything.opt_state) if leaf.ndim) > size
    batches = toy.batches()
    for _ in range(3):
        state, metrics = step(state, next(batches))
    toy.assert_equal(state.params["body"], toy.params()["body"])
    before, after = flatten(toy.params()["skip"]), flatten(state.params["skip"])
    assert all((before[name] != after[name]).any() for name in before)
    assert float(metrics.grad_norm) > 0


def test_gradient_norm_is_that_of_the_trained_parameters():
    """Stage one reports what it clips and moves, not what it ignores."""
    batch = next(toy.batches())
    norms = {}
    for patterns in ((), ("^skip/",), ("^body/",)):
        state, step = toy.training(trainable=patterns)
        norms[patterns] = float(step(state, batch)[1].grad_norm)
    together = np.hypot(norms["^skip/",], norms["^body/",])
    np.testing.assert_allclose(norms[()], together, rtol=1e-5)


def test_clipping_scales_the_whole_gradient():
    params = toy.params()
    grads = jax.tree.map(lambda leaf: jnp.full_like(leaf, 3.0), params)
    moves = []
    for scale in (1.0, 10.0):
        optimizer = make_optimizer(OptimizerConfig(clip_norm=0.1, eps=1.0), params)
        scaled = jax.tree.map(lambda leaf, s=scale: leaf * s, grads)
        updates, _ = optimizer.update(scaled, optimizer.init(params), params)
        moves.append(updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), *moves)


def test_clipping_waits_for_its_first_step():
    """With eps = 1 far above the gradients, AdamW's first moves are proportional to them."""
    params = toy.params()
    grads = jax.tree.map(lambda leaf: jnp.full_like(leaf, 1e-3), params)
    options = {"clip_norm": 1e-5, "eps": 1.0, "beta1": 0.0}
    clipped, free, late = (
        make_optimizer(OptimizerConfig(**{**options, **change}), params)
        for change in ({}, {"clip_norm": 0.0}, {"clip_from": 2})
    )
    states = [optimizer.init(params) for optimizer in (clipped, free, late)]
    for step in range(4):
        moves = []
        for i, optimizer in enumerate((clipped, free, late)):
            updates, states[i] = optimizer.update(grads, states[i], params)
            moves.append(float(updates["body"]["bias"][0]))
        np.testing.assert_allclose(moves[2], moves[0] if step >= 2 else moves[1], rtol=1e-2)
        assert abs(moves[1]) > 10 * abs(moves[0])


def test_weight_decay_shrinks_without_a_gradient():
    params = toy.params()
    optimizer = make_optimizer(OptimizerConfig(lr=0.1, weight_decay=0.5), params)
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zero, optimizer.init(params), params)
    jax.tree.map(
        lambda move, leaf: np.testing.assert_allclose(move, -0.05 * leaf, rtol=1e-6),
        updates,
        params,
    )


def test_patterns_are_searched_in_paths():
    mask = trainable_mask(toy.params(), ("table$", "^body/"))
    chosen = {path for path, train in flatten(mask).items() if train}
    assert chosen == {"body/bias", "body/kernel", "skip/table"}


@pytest.mark.parametrize("pattern", ["blocks_7", "("])
def test_patterns_that_choose_nothing_are_refused(pattern):
    with pytest.raises(ValueError, match="trainable"):
        trainable_mask(toy.params(), ("skip", pattern))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", 0.0),
        ("lr", float("nan")),
        ("schedule", "exponential"),
        ("clip_from", -1),
        ("warmup_steps", -1),
        ("clip_norm", -1.0),
        ("skip_above", -0.02),
        ("skip_above", float("nan")),
        ("weight_decay", -0.1),
        ("beta1", 1.0),
        ("beta2", -0.1),
    ],
)
def test_bad_values_are_named(name, value):
    with pytest.raises(ValueError, match=name) as caught:
        OptimizerConfig(**{"steps": 10, name: value})
    assert repr(value) in str(caught.value)
