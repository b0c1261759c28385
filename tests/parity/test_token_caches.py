"""ToCa and DuCa against loops of their originals: steps, budgets, tokens, scores, outputs."""

import dataclasses
import functools
import json
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.caching import tokens
from tests.parity.cached import compare_steps, of_set_c, replay
from tests.parity.goldens import assert_close, load
from tests.parity.test_caches import PAIR, STEP, groups, setting

BUDGETS = {"ToCa-ddim50": "ddim50", "ToCa-ddpm250": "ddpm250", "ToCa": "ddim50"}
SCORES = {"attention": "attention", "kv-norm": "values", "random": "random"}
SCORE_LIMIT = 2e-5  # golden/c/README.md: scores deviate by 1.5e-6, margins are 3.3e-5 and more
FULL, SOME, AGGRESSIVE = range(3)
# Each compiles a program of its own. These are every score, both samplers, both budgets of ToCa,
# and the steps of DuCa that choose nothing; the others are the same with other numbers.
FEW = {
    "toca_small": ("ddim20_clip", "kvnorm20", "ddpm25", "random20"),
    "duca_small": ("kvnorm20", "ddpm25"),
}


class Seen(NamedTuple):
    """What a layer did at a token step, rows [cond; uncond]."""

    age: np.ndarray
    score: np.ndarray | None


def policy_of(golden, group):
    how = setting(golden, group)
    method = sd.DuCa if "DuCa" in json.loads(str(golden["info"]))["repo"] else sd.ToCa
    return method(
        interval=how["N"],
        ratio=how["R"],
        age=how["lam"],
        budget=BUDGETS[how["scheduler"]],
        score=SCORES[how["cache_type"]],
    )


@functools.cache
def followed(path, group):
    """Our plan, what every step made, and what each layer did at it, by (step, layer)."""
    golden = load(path)
    seen, original = {}, tokens._some

    def spied(sub, number, place, rows, access, keys, sublayer, after):
        scores, choose = [], tokens.choose_tokens

        def watched(score, count, size):
            scores.append(score)
            return choose(score, count, size)

        def note(step, age, *score):
            found = np.asarray(score[0]) if score else None
            seen[int(step), place // len(PAIR)] = Seen(np.asarray(age), found)

        with mock.patch.object(tokens, "choose_tokens", watched):
            original(sub, number, place, rows, access, keys, sublayer, after)
        age = after[tokens.beside(sub.sites[place], tokens.AGE)][0]
        jax.debug.callback(note, rows.step, age, *scores)

    def recorded(keys, step, place, shape):
        table = golden[f"{group}/rand"][:, place // len(PAIR)]  # [S,n,N]
        return jnp.concatenate([jnp.asarray(table)[step]] * 2)

    with (
        mock.patch.object(tokens, "_some", spied),
        mock.patch.object(tokens, "draw", recorded),
    ):
        made = of_set_c(golden, group, policy_of(golden, group))
        plan, taps = replay(golden, made, fresh=True)
    jax.effects_barrier()
    return plan, taps, seen


def assert_as_recorded(golden, group):
    """Outputs, types, budgets, and of every token step the tokens and their scores."""
    plan, taps, seen = followed(golden.folder / f"{golden.stem}.npz", group)
    compare_steps(golden, of_set_c(golden, group, None), taps)
    kinds, fresh = golden[f"{group}/type"], golden[f"{group}/fresh"]
    whole = plan.computed().reshape(*kinds.shape, len(PAIR))
    assert np.array_equal(whole, np.repeat(kinds[..., None] == FULL, len(PAIR), -1)), group
    count = plan.rows.sub.tokens.chosen.reshape(whole.shape)[..., 1]
    assert np.array_equal(count[kinds == SOME], golden[f"{group}/k"][kinds == SOME]), group
    assert np.all(count[kinds == AGGRESSIVE] == -1), group
    for step, layer in np.argwhere(kinds == SOME):
        told = seen[step, layer]
        place = f"{group}: tokens of step {step}, layer {layer}"
        assert np.array_equal(told.age == 0, fresh[step, layer]), place
        if told.score is not None:
            assert_close(told.score, golden[f"{group}/score"][step, layer], SCORE_LIMIT, place)


def few_of(golden):
    return [group for group in groups(golden) if group in FEW[golden.stem]]


@pytest.mark.golden("toca_small", "duca_small")
def test_small_runs(golden):
    few = few_of(golden)
    assert few
    for group in few:
        assert_as_recorded(golden, group)


@pytest.mark.slow
@pytest.mark.golden("toca_small", "duca_small")
def test_other_small_runs(golden):
    others = set(groups(golden)) - set(few_of(golden))
    assert others
    for group in sorted(others):
        assert_as_recorded(golden, group)


@pytest.mark.slow
@pytest.mark.golden("toca", "duca", "toca_ddpm250")
def test_published_runs(golden):
    for group in groups(golden):
        assert_as_recorded(golden, group)


@pytest.mark.golden("toca_small")
@pytest.mark.parametrize(
    ("key", "region"),
    [("type", ()), ("k", ()), ("fresh", ()), ("score", ()), ("model_out", STEP), ("sample", STEP)],
)
def test_damage_to_loops_of_tokens_is_seen(golden, key, region):
    group = "kvnorm20"
    others = set(groups(golden)) - {group}
    arrays = {k: v for k, v in golden.arrays.items() if k.split("/")[0] not in others}
    if key == "score":  # is compared where tokens are chosen
        chosen = (golden[f"{group}/type"] == SOME) & (golden[f"{group}/k"] > 0)
        region = tuple(np.argwhere(chosen)[0])
    one = dataclasses.replace(golden, arrays=arrays).damaged(f"{group}/{key}", region, by=1e-2)
    with pytest.raises(AssertionError, match=group):
        test_small_runs(one)
