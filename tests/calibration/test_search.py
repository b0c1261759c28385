"""The best lists of computed steps are the best: against all lists, on runs of few steps."""

from itertools import combinations

import numpy as np
import pytest

from skipdit_jax.calibration.search import (
    cheapest,
    error_of,
    gap_costs,
    minimax,
    refined,
)

STEPS = 9


def lists(full, gaps):
    """All lists of so many computed steps whose gaps are short enough."""
    for rest in combinations(range(1, STEPS), full - 1):
        edges = (0, *rest, STEPS)
        if max(np.diff(edges)) <= gaps:
            yield edges[:-1]


def gaps_of(costs, full):
    return [costs[i, after - i - 1] for i, after in zip(full, (*full[1:], STEPS), strict=True)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("full", range(3, STEPS + 1))
def test_no_other_list_is_better(seed, full):
    costs = np.random.default_rng(seed).exponential(size=(STEPS, 4)).cumsum(axis=1)
    every = list(lists(full, gaps=4))
    assert cheapest(costs, full) == min(every, key=lambda one: sum(gaps_of(costs, one)))
    dearest = min(every, key=lambda one: sorted(gaps_of(costs, one), reverse=True))
    assert minimax(costs, full) == dearest


def test_even_costs_make_even_gaps():
    effects = np.ones((12, 11, 1))  # an error that does not depend on the step adds up
    assert cheapest(gap_costs(effects), 4) == (0, 3, 6, 9)


def test_effects_of_a_gap_add_up_before_they_are_squared():
    effects = np.array([[[1.0, 1.0], [2.0, -1.0]]])
    assert gap_costs(effects).tolist() == [[0.0, 1.0, 4.5]]


@pytest.mark.parametrize("seed", range(3))
def test_no_move_of_one_step_makes_a_refined_list_better(seed):
    effects = np.random.default_rng(seed).normal(size=(STEPS, 4, 5)) + 0.3
    first = (0, 2, 4, 6)
    found = refined(effects, first)
    error = error_of(effects, found)
    assert error < error_of(effects, first)
    for other in lists(len(first), gaps=5):
        if len(set(other) & set(found)) == len(first) - 1:
            assert error_of(effects, other) >= error


def test_errors_that_cancel_are_found_by_moves_alone():
    """Of two gaps that are dear by themselves, one undoes the other."""
    effects = np.array([2.0, 1.0, -2.0, 1.0, 0.0]).reshape(5, 1, 1)
    assert cheapest(gap_costs(effects), 3) == (0, 1, 3)
    assert error_of(effects, (0, 1, 3)) == 4.0
    assert refined(effects, (0, 2, 3)) == (0, 2, 4)
    assert error_of(effects, (0, 2, 4)) == 0.0


def test_gaps_that_were_not_measured_have_no_error():
    with pytest.raises(ValueError, match="found a gap of 8 steps, wanted at most 4"):
        error_of(np.zeros((STEPS, 4, 1)), (0,))


@pytest.mark.parametrize(("full", "least"), [(2, 3), (0, 3), (10, 3)])
def test_too_few_steps_cannot_cover_a_run(full, least):
    with pytest.raises(ValueError, match=rf"found {full} computed of 9 .* wanted {least} to 9"):
        cheapest(np.zeros((STEPS, 4)), full)
